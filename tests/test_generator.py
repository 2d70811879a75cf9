"""Generators: what is inferred, what is refused, and what identifies the weights."""

import copy
import warnings

import polarity_sampling as ps
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 6)).eval()


class Labelled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(3, 4)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return z * self.embed(label)


@pytest.mark.parametrize(
    ("module", "dim"),
    [
        (mlp(), 4),
        (nn.Sequential(nn.Unflatten(1, (7, 1, 1)), nn.ConvTranspose2d(7, 3, 4)), 7),
    ],
)
def test_latent_dim_is_inferred(module, dim):
    assert ps.Generator(module).latent_dim == dim


def test_latent_dim_is_asked_for():
    with pytest.raises(ValueError, match=r"latent_dim of ReLU cannot be inferred.*latent_dim=\.\.\."):
        ps.Generator(nn.ReLU())


def test_calls_in_batches_without_gradients():
    g = ps.Generator(mlp())
    z = torch.randn(10, 4)
    out = g(z, batch_size=3)
    assert not out.requires_grad
    torch.testing.assert_close(out, g.module(z).detach())


@pytest.mark.parametrize("label", [1, torch.tensor(1), torch.ones(10, dtype=torch.int32), [1] * 10])
def test_labels_in_every_form(label):
    g = ps.Generator(Labelled(), 4, num_classes=3)
    z = torch.randn(10, 4)
    torch.testing.assert_close(g(z, label, batch_size=4), z * g.module.embed.weight[1].detach())


@pytest.mark.parametrize(
    ("z", "error", "text"),
    [
        (torch.randn(3, 5), ValueError, r"z has shape \[3, 5\]; expected \[B, 4\]"),
        (torch.randn(4), ValueError, r"z has shape \[4\]"),
        (torch.randn(0, 4), ValueError, "z is empty"),
        (torch.zeros(3, 4, dtype=torch.int64), TypeError, "floating point"),
        (
            torch.tensor([[0.0] * 4, [float("nan")] * 4]),
            ValueError,
            "NaN or infinite values .first in row 1.",
        ),
        ([[0.0] * 4], TypeError, "z is a list"),
    ],
)
@pytest.mark.parametrize(
    "call", [lambda g, z: g(z), ps.jacobian, ps.log_volume], ids=["call", "jacobian", "volume"]
)
def test_bad_latents(call, z, error, text):
    with pytest.raises(error, match=text):
        call(ps.Generator(mlp()), z)


def test_precisions():
    g = ps.Generator(mlp().double())
    z = torch.randn(3, 4)
    assert ps.jacobian(g, z).to_dense().dtype == torch.float64  # float32 latents are exact in float64
    assert torch.equal(g(z), g(z.double()))
    assert ps.Generator(mlp())(z.double()).dtype == torch.float32
    with pytest.raises(TypeError, match=r"pass z\.to\(torch\.float32\)"):
        ps.jacobian(ps.Generator(mlp()), z.double())
    with pytest.raises(TypeError, match=r"needs float32 or float64: call module\.float"):
        ps.jacobian(ps.Generator(mlp().bfloat16()), z.bfloat16())


@pytest.mark.parametrize(
    ("label", "error", "text"),
    [
        (None, ValueError, "label is missing: this generator has 3 classes"),
        (3, ValueError, r"label has values 3\.\.3; expected 0\.\.2"),
        (torch.tensor([0, -1]), ValueError, r"-1\.\.0"),
        (torch.zeros(5, dtype=torch.int64), ValueError, r"shape \[5\]; expected \[2\]"),
        (torch.zeros(2), TypeError, "expected integers"),
    ],
)
def test_bad_labels(label, error, text):
    with pytest.raises(error, match=text):
        ps.jacobian(ps.Generator(Labelled(), 4, num_classes=3), torch.randn(2, 4), label)


def norm_net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 6))


class BatchStatistics(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z / z.std(0, keepdim=True)


class Noisy(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z + 0.01 * torch.randn_like(z)


class WithoutGradients(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    @torch.no_grad()
    def forward(self, z: Tensor) -> Tensor:
        return self.layer(z)


class Pair(nn.Module):
    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z, z


class Pixels(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return (255 * z.sigmoid()).to(torch.uint8)


class Half(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z.half()


class Nothing(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z[:, :0]


class Mixed(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z.sum()


def with_nan() -> nn.Module:
    module = mlp()
    with torch.no_grad():
        module[2].bias[3] = float("nan")
    return module


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (norm_net().train(), r"layer '1' .BatchNorm1d. is in train mode.*call module.eval"),
        (nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5)).train(), "layer '1' .Dropout. is in train mode"),
        (with_nan(), r"weight '2.bias' has NaN"),
        (BatchStatistics(), "depends on the other latents in its batch"),
        (
            nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, track_running_stats=False)).eval(),
            "runs on two latents but not on one alone",
        ),
        (Noisy(), "random: two calls with the same latents differ"),
        (WithoutGradients(), r"cuts its samples off from z .torch\.no_grad"),
        (Pair(), "returned a tuple; expected one tensor"),
        (Pixels(), r"returned torch\.uint8; expected samples in float32 or float64"),
        (nn.Sequential(nn.Linear(4, 4), Half()), r"returned torch\.float16; expected"),
        (Nothing(), r"returned shape \[2, 0\]"),
        (nn.Linear(5, 2), r"does not run on latents \[2, 4\] \(mat1 and mat2.*latent_dim="),
        (nn.Conv2d(4, 2, 1), r"does not run on latents \[2, 4\].*z\[:, :, None, None\]"),
        (Labelled(), r"missing 1 required positional argument: 'label'.*num_classes="),
        (Mixed(), r"returned shape \[\] for 2 latents"),
    ],
)
def test_generators_without_a_jacobian_per_latent(module, text):
    with pytest.raises(ps.GeneratorError, match=text):
        ps.jacobian(ps.Generator(module, 4), torch.randn(3, 4))


def test_samples_in_another_precision_than_the_weights():
    class Raised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6))

        def forward(self, z: Tensor) -> Tensor:
            return self.layers(z).double()

    module, z = Raised().eval(), torch.randn(3, 4)
    J = ps.jacobian(module, z)
    assert J.dtype == torch.float64
    expected = torch.stack([jacobian(lambda one: module(one[None])[0], one) for one in z])
    torch.testing.assert_close(J.to_dense().float(), expected, atol=1e-5, rtol=1e-5)


def test_frozen_torchscript_has_no_modes():
    module = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frozen = torch.jit.freeze(torch.jit.script(module))
    z = torch.randn(3, 4)
    torch.testing.assert_close(ps.jacobian(frozen, z).to_dense(), ps.jacobian(module, z).to_dense())


def test_a_repaired_module_is_looked_at_again():
    module = norm_net().train()
    with pytest.raises(ps.GeneratorError, match=r"train mode"):
        ps.jacobian(module, torch.randn(2, 4))
    ps.jacobian(module.eval(), torch.randn(2, 4))
    with torch.no_grad():
        module[0].weight[0, 0] = float("inf")
    with pytest.raises(ps.GeneratorError, match="weight '0\\.weight'"):
        ps.jacobian(module, torch.randn(2, 4))


def test_the_version_follows_every_tensor_of_shared_and_circular_modules():
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.Sequential(shared, nn.BatchNorm1d(2)))
    model[1].add_module("owner", model)
    generator = ps.Generator(model, latent_dim=2)
    assert len(generator.version()[1]) == len([*model.parameters(), *model.buffers()])
    for tensor in (*model.parameters(), *model.buffers()):
        before = generator.version()
        with torch.no_grad():
            tensor += 1
        assert generator.version() != before


@pytest.mark.parametrize("compiled", [torch.jit.script, lambda m: torch.jit.trace(m, torch.randn(2, 4))])
def test_a_copy_of_torchscript_in_float64_is_silent(compiled):
    generator = ps.Generator(compiled(mlp()), 4)
    z = torch.randn(3, 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        double = generator.in_dtype(torch.float64)
    assert [str(w.message) for w in caught if not issubclass(w.category, DeprecationWarning)] == []
    torch.testing.assert_close(double(z).float(), generator(z))


def test_weight_hash():
    first, same, other = mlp(), mlp(), mlp()
    with torch.no_grad():
        other[0].weight[0, 0] += 1e-6
    steeper = copy.deepcopy(first)
    steeper[1] = nn.LeakyReLU(0.3)
    assert ps.Generator(first).weight_hash() == ps.Generator(same).weight_hash()
    assert len({ps.Generator(m).weight_hash() for m in (first, other, steeper)}) == 3
    assert ps.Generator(first.double()).weight_hash() != ps.Generator(same).weight_hash()


def test_arguments_are_checked():
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module"):
        ps.Generator(lambda z: z, 3)
    with pytest.raises(ValueError, match="num_classes is 0"):
        ps.Generator(mlp(), num_classes=0)
    with pytest.raises(ValueError, match="latent_dim is -1"):
        ps.Generator(mlp(), -1)


class Gain(nn.Module):
    """With parts that no count of writes follows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 6))
        self.gain, self.shift = 1.0, torch.zeros(6)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.count = 0

    def forward(self, z):
        self.calls += 1
        self.count += 1
        return (self.layers(z) * self.gain + self.shift).tanh()


def _swap(m):
    m.layers[1] = nn.ReLU()


CHANGES = {
    "data": lambda m: m.layers[2].weight.data.mul_(2),
    "numpy": lambda m: m.layers[0].weight.detach().numpy().__imul__(3),
    "attribute": lambda m: setattr(m, "gain", 2.0),
    "plain tensor": lambda m: m.shift.data.add_(1.0),
    "slope": lambda m: setattr(m.layers[1], "negative_slope", 0.7),
    "layer": _swap,
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_that_torch_does_not_count_are_noticed(change):
    module = Gain().eval()
    z = torch.randn(3, 4)
    before = ps.jacobian(module, z).to_dense()
    CHANGES[change](module)
    after = ps.jacobian(module, z)
    assert after.route == "captured"
    expected = torch.stack([jacobian(lambda one: module(one[None])[0], one) for one in z])
    torch.testing.assert_close(after.to_dense(), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before, after.to_dense(), atol=1e-3)


def test_what_a_forward_pass_counts_is_no_change():
    generator = ps.Generator(Gain().eval(), 4)
    ps.log_volume(generator, torch.randn(2, 4), top_k=2)
    version, double = generator.version(), generator.in_dtype(torch.float64).version()
    ps.log_volume(generator, torch.randn(2, 4), top_k=2)
    assert generator.version() == version
    assert generator.in_dtype(torch.float64).version() == double


def test_train_mode_is_noticed_later_too():
    module = norm_net().eval()
    ps.jacobian(module, torch.randn(2, 4))
    module.train()
    with pytest.raises(ps.GeneratorError, match=r"train mode"):
        ps.jacobian(module, torch.randn(2, 4))
