"""Sign changes around a latent, against the distances of hyperplanes from it."""

import polarity_sampling as ps
import pytest
import torch
from torch import nn
from torch.nn import functional as F


def expected(weight, bias, z, radius, seed):
    """A hyperplane passes between the vertices z +- r q_i where |w z + b| < r max |w q_i|."""
    import polarity_ext

    dim = z.shape[1]
    frame = torch.linalg.qr(polarity_ext.gaussian(seed, 0, (dim, min(25, dim))).double())[0]
    reach = radius * (weight.double() @ frame).abs().amax(1)
    return ((z.double() @ weight.double().T + bias.double()).abs() < reach).sum(1)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.1), nn.PReLU()])
@pytest.mark.parametrize("memory", ["1GiB", "64KiB"])
def test_one_layer(activation, memory, seed):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(6, 300), activation, nn.Linear(300, 8)).eval().double()
    z = torch.randn(40, 6).double()
    found = ps.local_complexity(module, z, radius=0.1, seed=seed, memory=memory)
    truth = expected(module[0].weight, module[0].bias, z, 0.1, seed)
    assert torch.equal(found, truth)
    assert int(truth.min()) > 0


def test_functions_count_as_modules_do(seed):
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(5, 200)

        def forward(self, z):
            return F.relu(self.linear(z))

    torch.manual_seed(seed)
    module = Functional().double()
    z = torch.randn(10, 5).double()
    truth = expected(module.linear.weight, module.linear.bias, z, 0.2, 3)
    assert torch.equal(ps.local_complexity(module, z, radius=0.2, seed=3), truth)


def test_clipping_has_two_edges(seed):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(4, 100), nn.Hardtanh(-0.5, 0.5)).double()
    z = torch.randn(10, 4).double()
    weight, bias = module[0].weight, module[0].bias
    truth = expected(weight, bias + 0.5, z, 0.2, 0) + expected(weight, bias - 0.5, z, 0.2, 0)
    assert torch.equal(ps.local_complexity(module, z, radius=0.2), truth)


def test_no_more_within_a_smaller_neighbourhood(seed):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 9)).eval()
    z = torch.randn(30, 8)
    wide, narrow = (ps.local_complexity(module, z, radius=r) for r in (0.3, 1e-5))
    assert int(wide.sum()) > 10 * int(narrow.sum())
    assert wide.dtype == torch.int64


def test_refusals():
    smooth = nn.Sequential(nn.Linear(3, 4), nn.Tanh()).eval()
    with pytest.raises(ps.GeneratorError, match="no piecewise affine activation"):
        ps.local_complexity(smooth, torch.randn(2, 3))
    with pytest.raises(ValueError, match="radius is 0"):
        ps.local_complexity(smooth, torch.randn(2, 3), radius=0)
    with pytest.raises(ValueError, match=r"directions is 4; expected 1\.\.3"):
        ps.local_complexity(smooth, torch.randn(2, 3), directions=4)


def test_generators_whose_samples_depend_on_their_batch():
    """Their units see the statistics of all vertices together."""
    training = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)).train()
    with pytest.raises(ps.GeneratorError, match="in train mode"):
        ps.local_complexity(training, torch.randn(2, 3))
    with pytest.raises(ps.GeneratorError, match=r"does not run on latents \[2, 5\]"):
        ps.local_complexity(training.eval(), torch.randn(2, 5))
