"""J @ V and J^T @ U in every input form, against the dense Jacobian."""

import math
from dataclasses import is_dataclass

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.jacobian import captured_route
from polarity_sampling.memory import parse_memory
from torch import Tensor, nn

from tests import oracle
from tests.jacobian.peak import PeakBytes


def mlp(dtype=torch.float32):
    torch.manual_seed(0)
    return (
        nn.Sequential(nn.Linear(5, 16), nn.SiLU(), nn.Linear(16, 12), nn.Unflatten(1, (3, 2, 2)))
        .to(dtype)
        .eval()
    )


class Conditional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 5)
        self.out = nn.Linear(5, 7)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        assert label.dtype == torch.int64
        assert label.shape == z.shape[:1]
        return self.out(torch.tanh(z * self.embed(label)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.parametrize("probes", [1, 9])
@pytest.mark.parametrize("memory", ["1GiB", 1])
def test_products(dtype, batch, probes, memory):
    g = ps.Generator(mlp(dtype))
    gen = torch.Generator().manual_seed(7)
    z = torch.randn(batch, 5, generator=gen, dtype=dtype)
    J = ps.jacobian(g, z, memory=memory)
    truth = oracle.dense_jacobian(g, z)
    tol = 1e-5 if dtype == torch.float32 else 1e-12
    assert J.shape == (batch, 12, 5)
    assert J.mT.shape == (batch, 5, 12)
    assert J.mT.mT is J
    V = torch.randn(batch, 5, probes, generator=gen, dtype=dtype)
    U = torch.randn(batch, 12, probes, generator=gen, dtype=dtype)
    for found, expected in [
        (J @ V, truth @ V.double()),
        (J @ V[0], truth @ V[0].double()),
        (J.mT @ U, truth.mT @ U.double()),
        (J.mT @ U[0], truth.mT @ U[0].double()),
        (J.to_dense(), truth),
        (J.column_block(1, 4), truth[:, :, 1:4]),
    ]:
        assert found.dtype == dtype
        assert found.shape == expected.shape
        assert not found.requires_grad
        torch.testing.assert_close(found.double(), expected, atol=tol, rtol=tol)


def test_probes_stored_first():
    """The layout the Gram kernel reads without a transpose."""
    J = ps.jacobian(mlp(), torch.randn(3, 5))
    assert (J @ torch.randn(5, 4)).permute(2, 0, 1).is_contiguous()


def test_labels_reach_the_module():
    g = ps.Generator(Conditional(), 5, num_classes=4)
    z, label = torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 3, 0])
    truth = oracle.dense_jacobian(g, z, label)
    torch.testing.assert_close(ps.jacobian(g, z, label).to_dense().double(), truth, atol=1e-5, rtol=1e-5)
    one = ps.jacobian(g, z, 2).to_dense().double()
    torch.testing.assert_close(one, oracle.dense_jacobian(g, z, torch.full((6,), 2)), atol=1e-5, rtol=1e-5)
    plain = ps.jacobian(g.module, z, label).to_dense().double()
    torch.testing.assert_close(plain, truth, atol=1e-5, rtol=1e-5)


def test_functions_without_parameters():
    class Swirl(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return torch.stack([z[:, 0].sin(), z.prod(1)], 1)

    z = torch.randn(4, 2, dtype=torch.float64)
    found = ps.jacobian(Swirl(), z).to_dense()
    torch.testing.assert_close(found, oracle.dense_jacobian(ps.Generator(Swirl(), 2), z))


def test_trainable_weights_and_inference_mode_do_not_matter():
    module = mlp()
    z = torch.randn(2, 5)
    expected = ps.jacobian(module, z).to_dense()
    assert all(p.requires_grad for p in module.parameters())
    assert all(p.grad is None for p in module.parameters())
    with torch.no_grad():
        assert torch.equal(ps.jacobian(module, z).to_dense(), expected)
        assert (ps.jacobian(module, z).mT @ torch.eye(12)).shape == (2, 5, 12)


@pytest.mark.parametrize("memory", ["64KiB", "1MiB"])
def test_memory_bounds_the_tangents_in_flight(memory):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(8, 64), nn.Unflatten(1, (4, 4, 4)), nn.Conv2d(4, 8, 3, padding=1), nn.GELU(), nn.Flatten()
    )
    z, budget = torch.randn(6, 8), parse_memory(memory)
    J = ps.jacobian(module.eval(), z, memory=memory)
    V, U = torch.randn(8, 300), torch.randn(128, 300)
    J @ V[:, :1]  # capture and primal pass are not tangents
    for product in (lambda: J @ V, lambda: J.mT @ U):
        with PeakBytes() as peak:
            result = product()
        used = peak.peak - result.untyped_storage().nbytes()
        # Above half of it, because a budget is there to be used.
        assert budget / 4 < used <= budget
    assert ps.jacobian(module, z, memory=1).chunk == 1


@pytest.mark.parametrize(("memory", "keeps"), [("2MiB", False), ("16MiB", True)])
def test_memory_bounds_weights_and_residuals_too(memory, keeps):
    """Slopes of 256 latents take 4 MiB, the weight in the form of Winograd's filtering 144 KiB each way."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(8, 2048), nn.Unflatten(1, (32, 8, 8)), nn.Conv2d(32, 32, 3, padding=1), nn.SiLU(),
        nn.Flatten(), nn.SiLU(), nn.Linear(2048, 4),
    ).eval()  # fmt: skip
    budget = parse_memory(memory)
    V, U = torch.randn(8, 40), torch.randn(4, 40)
    for _ in range(2):  # the first time captures, and rearranges weights
        z = torch.randn(256, 8)
        with PeakBytes() as peak:
            J = ps.jacobian(module, z, memory=memory)
            tangents, cotangents = J @ V, J.mT @ U
        used = peak.peak - sum(t.untyped_storage().nbytes() for t in (tangents, cotangents))
    route = J._captured()
    kept = [block.kept for block in route.blocks]
    assert all(r is not None for r in kept) if keeps else all(r is None for r in kept)
    weights = {block.program: block.weight_bytes for block in route.blocks}
    assert budget / 4 < used + sum(weights.values()) <= budget
    whole = ps.jacobian(module, z)
    torch.testing.assert_close(tangents, whole @ V)
    torch.testing.assert_close(cotangents, whole.mT @ U)


def test_rearranged_weights_are_counted():
    """All that the forms of convolutions hold, each tensor once."""
    module = nn.Sequential(
        nn.Unflatten(1, (2, 4, 4)), nn.Conv2d(2, 32, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2),
        nn.Conv2d(32, 64, 3, padding=1), nn.SiLU(), nn.Conv2d(64, 32, 3, padding=1),
    ).eval()  # fmt: skip
    J = ps.jacobian(module, torch.randn(2, 32))
    J @ torch.randn(32, 3), J.mT @ torch.randn(J.shape[1], 3)
    (block,) = J._captured().blocks
    stages = {link.stage for link in (*block.program.unfused, *block.program.links)}
    forms = [vars(stage).get(name) for stage in stages for name in ("_primal", "_forward", "_backward")]
    held = {t.data_ptr(): t.nbytes for form in forms for t in _tensors_in(form)}
    assert sum(held.values()) <= block.weight_bytes <= 1.5 * sum(held.values())


def test_weights_stay_as_they_are_where_memory_is_scarce():
    module = nn.Sequential(nn.Unflatten(1, (32, 4, 4)), nn.Conv2d(32, 64, 3, padding=1), nn.Tanh()).eval()
    z, V, U = torch.randn(9, 512), torch.randn(512, 20), torch.randn(1024, 20)
    ample, scarce = ps.jacobian(module, z), ps.jacobian(module, z, memory="1MiB")
    torch.testing.assert_close(scarce @ V, ample @ V, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scarce.mT @ U, ample.mT @ U, atol=1e-5, rtol=1e-4)
    assert ample._captured().blocks[0].weight_bytes > 2**18 >= scarce._captured().blocks[0].weight_bytes


def test_weights_of_float64_give_way_first():
    """They are used by two products; those of float32 by all."""
    module = nn.Sequential(nn.Unflatten(1, (64, 4, 4)), nn.Conv2d(64, 64, 3, padding=1), nn.Tanh()).eval()
    z, V = torch.randn(2, 1024), torch.randn(1024, 20)
    ample = ps.jacobian(module, z, primal="float64")
    (whole,) = ample._captured().blocks
    memory = int(0.9 * whole.weight_bytes / captured_route.REARRANGED)
    scarce = ps.jacobian(module, z, memory=memory, primal="float64")
    (block,) = scarce._captured().blocks
    assert block.program is whole.program
    assert block.double.push_bytes < whole.double.push_bytes
    assert block.weight_bytes <= memory * captured_route.REARRANGED
    torch.testing.assert_close(scarce @ V, ample @ V, atol=1e-5, rtol=1e-4)


def _tensors_in(form: object) -> list[torch.Tensor]:
    """What a form has as an object, or a function in its closure."""
    parts = [cell.cell_contents for cell in getattr(form, "__closure__", None) or ()]
    parts += vars(form).values() if is_dataclass(form) else []
    return [t for part in parts for t in ([part] if isinstance(part, torch.Tensor) else _tensors_in(part))]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda J: J @ torch.randn(4, 2),
            ValueError,
            r"V has shape \[4, 2\]; expected \[3, 5, L\] or \[5, L\]",
        ),
        (lambda J: J @ torch.randn(2, 5, 2), ValueError, "V has shape"),
        (
            lambda J: J @ torch.randn(5, 2).double(),
            TypeError,
            r"V is torch.float64 .* expected torch.float32",
        ),
        (lambda J: J @ [1.0], TypeError, "V is a list"),
        (lambda J: J.mT @ torch.randn(5, 2), ValueError, r"U has shape \[5, 2\]; expected \[3, 12, L\]"),
        (lambda J: J.column_block(3, 9), ValueError, "columns 3..9"),
    ],
)
def test_refused_probes(call, error, text):
    with pytest.raises(error, match=text):
        call(ps.jacobian(mlp(), torch.randn(3, 5)))


def test_inside_and_from_inference_mode():
    with torch.inference_mode():
        module, z = mlp(), torch.randn(2, 5)
        inside = ps.jacobian(module, z).to_dense()
    outside = ps.jacobian(module, z.clone())
    torch.testing.assert_close(inside, outside.to_dense())
    assert (outside.mT @ torch.eye(12)).shape == (2, 5, 12)
    assert torch.isfinite(ps.log_volume(module, torch.randn(2, 5), top_k=3).error).all()


class Branching(nn.Module):
    """On values, which no graph does."""

    def forward(self, z: Tensor) -> Tensor:
        return z.sin() if z.sum() > -1e9 else z


def test_work_of_products_together():
    """Of a perceptron what its inactive units leave, in the time of a product more than there are."""
    layers = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6)
    with torch.no_grad():
        layers[0].bias.copy_(torch.tensor([100.0] * 2 + [-100.0] * 6))  # two are active
    J = ps.jacobian(nn.Sequential(*layers), torch.randn(3, 4))
    for probes in (1, 3, 40):
        assert J.work(probes) == pytest.approx((probes + 1) * 2 * (4 + 6))
    plain = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8))
    assert ps.jacobian(plain, torch.randn(3, 4)).work(5) >= 6 * 4 * 8
    J = ps.jacobian(Branching(), torch.randn(3, 4))
    with pytest.warns(ps.PolarityWarning, match="cannot be captured"):
        assert J.route == "torch.func"
    assert J.work(5) == J.flops == math.inf


def test_flops_of_a_product():
    plain = ps.Generator(nn.Sequential(nn.Linear(4, 8, bias=False), nn.Linear(8, 6)), name="two layers")
    for batch in (1, 3):
        assert ps.jacobian(plain, torch.randn(batch, 4)).flops == 2 * (4 * 8 + 8 * 6)
