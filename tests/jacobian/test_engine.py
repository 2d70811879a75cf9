"""What the engine promises beside right products: capture once, recapture, explain, precision, threads."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.jacobian import compiled
from polarity_sampling.jacobian.explain import Explanation, Row
from torch import Tensor, nn

from tests import oracle


def network() -> nn.Module:
    layers = [
        nn.Linear(6, 32), nn.Unflatten(1, (8, 2, 2)), nn.BatchNorm2d(8), nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.BatchNorm2d(6), nn.LeakyReLU(0.2),
        nn.Conv2d(6, 3, 3, padding=1), nn.Tanh(),
    ]  # fmt: skip
    module = nn.Sequential(*layers)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.is_floating_point():
            value.data.uniform_(0.5, 2.0) if "var" in name else value.data.normal_(0.0, 0.3)
    return module.eval()


@pytest.fixture
def generator(seed):
    torch.manual_seed(seed)
    return ps.Generator(network(), 6)


@pytest.fixture
def captures(monkeypatch):
    """Batch sizes that were captured, in order."""
    seen = []
    capture = compiled.capture

    def counted(generator, z, label):
        seen.append(z.shape[0])
        return capture(generator, z, label)

    monkeypatch.setattr(compiled, "capture", counted)
    return seen


def test_captured_once_for_every_batch_size(generator, captures):
    for _ in range(3):
        ps.jacobian(generator, torch.randn(4, 6)).to_dense()
    assert captures == [4]
    J = ps.jacobian(generator, torch.randn(7, 6))  # four, two and one
    J.to_dense()
    J.mT @ torch.randn(J.shape[1], 2)
    assert captures == [4, 2, 1]
    ps.jacobian(generator.in_dtype(torch.float64), torch.randn(4, 6).double()).to_dense()
    assert captures == [4, 2, 1, 4]


def test_nothing_is_captured_before_the_first_product(generator, captures):
    assert ps.jacobian(generator, torch.randn(4, 6)).shape == (4, 48, 6)
    assert captures == []


def test_changed_weights_are_captured_again(generator, captures):
    z = torch.randn(3, 6)
    before = ps.jacobian(generator, z).to_dense()
    with torch.no_grad():
        generator.module[4].weight.mul_(1.5)
        generator.module[5].running_var.add_(0.3)
    after = ps.jacobian(generator, z).to_dense()
    torch.testing.assert_close(after.double(), oracle.dense_jacobian(generator, z), atol=1e-5, rtol=1e-5)
    assert (after - before).abs().max() > 1e-3
    assert captures == [2, 1, 2, 1]


def test_modules_are_let_go():
    module = network()
    gone = weakref.ref(module)
    ps.jacobian(module, torch.randn(2, 6)).to_dense()
    del module
    gc.collect()
    assert gone() is None


def test_explain(generator):
    explanation = ps.jacobian(generator, torch.randn(2, 6)).explain()
    assert explanation.route == "captured"
    assert explanation.reason is None
    assert explanation.fallbacks == ()
    # Batch norm behind a convolution goes into its weight, before a ReLU into its factor.
    assert ("aten.convolution", "aten.native_batch_norm") in [row.ops for row in explanation.rows]
    assert ("aten.native_batch_norm", "aten.relu") in [row.ops for row in explanation.rows]
    assert sum(row.flops for row in explanation.rows) == pytest.approx(1.0)
    lines = str(explanation).splitlines()
    assert lines[0].split() == ["stage", "ops", "rule", "flops", "bytes"]
    assert len(lines) == 1 + len(explanation.rows)


@pytest.mark.parametrize(
    ("ops", "written"),
    [
        ("a", "a"),
        ("a a", "a x 2"),
        ("a b c", "a b c"),
        ("a b a b a", "(a b) x 2 a"),
        ("c a b a b a b", "c (a b) x 3"),
        ("a a b a a b", "(a a b) x 2"),
        ("a a b c d e", "a x 2 b c d e"),
        ("", ""),
    ],
)
def test_operators_that_repeat_are_written_once(ops, written):
    row = Row("stage", tuple(ops.split()), "rule", 1.0, 0)
    line = str(Explanation("captured", None, (row,))).splitlines()[1]
    assert " ".join(line.split()) == " ".join(f"stage {written} rule 100.0% 0".split())


def test_upsampling_goes_into_the_next_convolution():
    module = nn.Sequential(
        nn.Linear(6, 36),
        nn.Unflatten(1, (4, 3, 3)),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(4, 5, 3, padding=1),
    )
    rows = ps.jacobian(module, torch.randn(2, 6)).explain().rows
    assert ("aten.upsample_nearest2d", "aten.convolution") in [row.ops for row in rows]


def test_explain_lists_what_has_no_rule():
    class Sorts(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z.sort(1)[0].square()

    explanation = ps.jacobian(Sorts(), torch.randn(2, 6)).explain()
    assert explanation.fallbacks == ("aten.sort",)
    assert "torch.func" in str(explanation)


class _CompiledParts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.compile(nn.Linear(6, 9), backend="aot_eager")
        self.last = nn.Linear(9, 4)
        self.wave = torch.compile(torch.sin, backend="aot_eager")

    def forward(self, z: Tensor) -> Tensor:
        return self.last(self.wave(self.first(z)))


@pytest.mark.parametrize("whole", [False, True])
def test_what_was_compiled_is_captured_all_the_same(whole):
    module = _CompiledParts().eval()
    if whole:
        module = torch.compile(module, backend="aot_eager")
    z = torch.randn(3, 6)
    J = ps.jacobian(module, z)
    assert J.route == "captured"
    expected = torch.stack([torch.autograd.functional.jacobian(lambda x: module(x[None])[0], x) for x in z])
    torch.testing.assert_close(J.to_dense(), expected, atol=1e-5, rtol=1e-5)


def test_autocast_of_the_caller_changes_nothing(generator):
    z, V = torch.randn(3, 6), torch.randn(6, 2)

    def found() -> list[Tensor]:
        J = ps.jacobian(generator, z)
        tangents = J @ V
        return [tangents, J.mT @ tangents, J.column_norms(), ps.log_volume(generator, z, top_k=2).value]

    expected = found()
    with torch.autocast("cpu", torch.bfloat16):
        again = found()
    for one, other in zip(expected, again, strict=True):
        assert torch.equal(one, other)


def test_autocast_of_the_caller_is_put_back_by_nested_calls(generator):
    class Nested(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            ps.jacobian(generator, torch.ones(1, 6))
            return z.sin()

    with torch.autocast("cpu", torch.bfloat16):
        ps.jacobian(Nested(), torch.randn(2, 3))
        assert torch.is_autocast_enabled("cpu")


def test_explain_says_why_a_module_is_not_captured():
    class Branches(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z.sin() if z.sum() > -1e9 else z

    J = ps.jacobian(Branches(), torch.randn(2, 6))
    with pytest.warns(ps.PolarityWarning, match="cannot be captured"):
        explanation = J.explain()
    assert explanation.route == "torch.func"
    assert "recorded" in explanation.reason
    assert explanation.reason in str(explanation)


class _Reversed(torch.autograd.Function):
    """A backward that is not the derivative of its forward."""

    @staticmethod
    def forward(x):
        return x * 2

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return -2 * grad

    @staticmethod
    def jvp(ctx, tangent):
        return -2 * tangent

    @staticmethod
    def vmap(info, in_dims, x):
        return _Reversed.apply(x), in_dims[0]


def test_a_derivative_of_their_own_is_respected():
    """Straight-through estimators and gradient reversal are not in the recorded operations."""

    class Module(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return _Reversed.apply(z)

    J = ps.jacobian(Module(), torch.randn(2, 3))
    with pytest.warns(ps.PolarityWarning, match="another derivative"):
        assert J.route == "torch.func"
    torch.testing.assert_close(J.to_dense(), -2 * torch.eye(3).expand(2, 3, 3))


def test_numbers_made_of_a_comparison_have_no_derivative():
    class Switch(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            far = (z.square().mean(1, keepdim=True) > 0.5).to(z.dtype)
            return far * z.sin() + (1.0 - far) * z * z.argmax(1, keepdim=True).to(z.dtype)

    module, z = Switch(), torch.tensor([[0.1, 0.3, 0.2], [2.0, 1.0, -1.0]])
    J = ps.jacobian(module, z)
    assert J.route == "captured"
    torch.testing.assert_close(J.to_dense(), torch.stack([torch.eye(3), torch.diag(z[1].cos())]))


class _Descent(nn.Module):
    """A step of gradient descent, cut off from z where that does not say that it wants a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(3, 16), nn.Softplus(), nn.Linear(16, 1))

    def forward(self, z: Tensor) -> Tensor:
        with torch.enable_grad():
            x = z if z.requires_grad else z.detach().requires_grad_()
            return x - torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)[0]


@torch.library.custom_op("polarity_tests::cube", mutates_args=())
def _cube(x: Tensor) -> Tensor:
    return x**3


_cube.register_autograd(
    lambda ctx, grad: 3 * ctx.saved_tensors[0] ** 2 * grad,
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
)


class _BranchesAndCubes(nn.Module):
    """Cannot be captured, and its operator has no forward derivative, which torch.func takes for zero."""

    def forward(self, z: Tensor) -> Tensor:
        return z if float(z.sum()) > 1e9 else z + _cube(z).roll(1, 1)


@pytest.mark.parametrize("kind", [_Descent, _BranchesAndCubes])
def test_a_derivative_that_is_zero_without_a_word_is_not_believed(kind):
    module, z = kind().eval(), torch.randn(4, 3)
    J = ps.jacobian(module, z)
    with pytest.warns(ps.PolarityWarning, match="cannot be transformed by torch.func"):
        found = J.to_dense()
    expected = torch.stack([torch.autograd.functional.jacobian(lambda x: module(x[None])[0], x) for x in z])
    assert J.route == "autograd"
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(J.mT @ torch.eye(3), expected.mT, atol=1e-5, rtol=1e-5)


def test_values_baked_in_are_noticed():
    class Baked(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z * torch.from_numpy(z.detach().numpy().copy())

    J = ps.jacobian(Baked(), torch.randn(2, 3))
    with pytest.warns(ps.PolarityWarning, match="other samples"):
        assert J.route == "torch.func"


def test_gram_norms_and_rows(generator):
    z = torch.randn(5, 6)
    J = ps.jacobian(generator, z)
    dense = oracle.dense_jacobian(generator, z)
    gram = dense.mT @ dense
    assert J.gram().dtype == torch.float64
    torch.testing.assert_close(J.gram(), gram, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(J.gram("float32").double(), gram, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(J.column_norms(), dense.norm(dim=1), atol=1e-5, rtol=1e-5)
    few = ps.jacobian(generator, z, memory=3000)  # one latent at a time
    torch.testing.assert_close(few.gram(), J.gram(), atol=1e-5, rtol=1e-5)
    assert few.column_norms().shape == (5, 6)
    index = torch.tensor([3, 1, 3])
    torch.testing.assert_close(J.rows(index).to_dense().double(), dense[index], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="accumulate is 'double'"):
        J.gram("double")


def test_scipy_operator(generator, seed):
    linalg = pytest.importorskip("scipy.sparse.linalg")
    J = ps.jacobian(generator.in_dtype(torch.float64), torch.randn(2, 6).double())
    operator = J.aslinearoperator()
    assert operator.shape == (2 * 48, 2 * 6)
    blocks = torch.block_diag(*J.to_dense()).numpy()
    rng = np.random.default_rng(seed)
    x, u = rng.normal(size=(12, 3)), rng.normal(size=96)
    np.testing.assert_allclose(operator @ x, blocks @ x, atol=1e-12)
    np.testing.assert_allclose(operator @ x[:, 0], blocks @ x[:, 0], atol=1e-12)
    np.testing.assert_allclose(operator.H @ u, blocks.T @ u, atol=1e-12)
    largest = linalg.svds(operator, k=1, return_singular_vectors=False)
    np.testing.assert_allclose(largest, np.linalg.svd(blocks, compute_uv=False)[:1], rtol=1e-8)


def test_precision_by_request(generator):
    z, V = torch.randn(3, 6), torch.randn(6, 4)
    exact = ps.jacobian(generator, z) @ V
    rounded = ps.jacobian(generator, z, precision="bf16") @ V
    assert rounded.dtype == torch.float32
    error = (rounded - exact).norm() / exact.norm()
    assert 1e-4 < error < 3e-2  # eight bits, a few layers
    assert torch.equal(ps.jacobian(generator, z) @ V, exact)
    double = generator.in_dtype(torch.float64)
    for g, latents, precision, text in [
        (generator, z, "tf32", "only CUDA devices"),
        (generator, z, "fp16", "expected 'fp32', 'tf32' or 'bf16'"),
        (double, z.double(), "bf16", "computes in torch.float64"),
    ]:
        with pytest.raises(ValueError, match=text):
            ps.jacobian(g, latents, precision=precision)
    with pytest.raises(ValueError, match="cuda_graph is True"):
        ps.jacobian(generator, z, cuda_graph=True)


def test_rounded_products_of_convolutions_that_minimal_filtering_would_take():
    module = nn.Sequential(
        nn.Linear(4, 64 * 64), nn.Unflatten(1, (64, 8, 8)), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(64, 32, 4, 2, 1),
    ).eval()  # fmt: skip
    z, V = torch.randn(4, 4), torch.eye(4)
    exact = ps.jacobian(module, z) @ V
    rounded = ps.jacobian(module, z, precision="bf16") @ V
    assert 1e-4 < (rounded - exact).norm() / exact.norm() < 3e-2


def test_several_threads(generator):
    z = torch.randn(4, 6)
    expected = ps.jacobian(generator, z).to_dense()
    fresh = ps.Generator(generator.module, 6)
    compiled._programs.pop(generator.module)
    J = ps.jacobian(fresh, z)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: J.to_dense(), range(8)):
            assert torch.equal(result, expected)


def test_composition_with_features(generator):
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5)).eval()
    both = generator.then(features)
    assert both.latent_dim == 6
    assert both.base == generator.base
    assert "Sequential > Sequential" in repr(both)
    z = torch.randn(3, 6)
    torch.testing.assert_close(both(z), features(generator(z)))
    J = ps.jacobian(both, z)
    assert J.shape == (3, 5, 6)
    truth = oracle.dense_jacobian(both, z)
    torch.testing.assert_close(J.to_dense().double(), truth, atol=1e-5, rtol=1e-5)
    with pytest.raises(TypeError, match="features is a function"):
        generator.then(lambda x: x)
    with pytest.raises(ps.GeneratorError, match="train mode"):
        ps.jacobian(generator.then(nn.Dropout()), z)


def test_shared_and_own_probes_agree(generator):
    """Probes that all latents share travel once until their paths part."""
    z = torch.randn(4, 6)
    J = ps.jacobian(generator, z)
    V, U = torch.randn(6, 5), torch.randn(48, 5)
    torch.testing.assert_close(J @ V, J @ V.expand(4, 6, 5), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(J.mT @ U, J.mT @ U.expand(4, 48, 5), atol=1e-5, rtol=1e-5)


def test_probes_are_not_written_to(generator):
    z, V, U = torch.randn(2, 6), torch.randn(2, 6, 3), torch.randn(2, 48, 3)
    kept = V.clone(), U.clone(), z.clone()
    J = ps.jacobian(generator, z)
    first, second = J @ V, J.mT @ U
    assert all(torch.equal(a, b) for a, b in zip((V, U, z), kept, strict=True))
    assert torch.equal(J @ V, first)
    assert torch.equal(J.mT @ U, second)


def test_layouts_of_probes(generator):
    z, V = torch.randn(2, 6), torch.randn(2, 6, 3)
    J = ps.jacobian(generator, z)
    strided = V.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert torch.equal(J @ strided, J @ V)
    assert torch.equal(J @ V[:, :, ::2], (J @ V[:, :, ::2].contiguous()))


def test_a_float64_primal_pass_of_what_cannot_be_copied_is_refused():
    class Locked(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 8)
            self.lock = threading.Lock()

        def forward(self, z):
            return torch.relu(self.linear(z))

    J = ps.jacobian(Locked().eval(), torch.randn(2, 4), primal="float64")
    with pytest.raises(ValueError, match=r"it cannot be copied to float64: cannot pickle.*leave them out"):
        J @ torch.eye(4)
