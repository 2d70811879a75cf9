"""Laws made of standard normals, against the laws' own draws. LEVEL: one seed in 10^5 fails a correct map."""

import pytest
import torch
from polarity_sampling.laws import Ball, Normal, Sphere, TruncatedNormal, Uniform
from polarity_sampling.samplers.smc.reference import latents_from, reference_dim
from scipy.stats import ks_2samp

LEVEL = 1e-5
LAWS = [
    Normal(), Normal(2.0, 0.5), Uniform(), Uniform(0.0, 3.0), TruncatedNormal(0.7), TruncatedNormal(3.0),
    Sphere(), Sphere(2.0), Ball(3.0), Ball(1.0, center=-2.0),
]  # fmt: skip


def normals(law, n, dim, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, reference_dim(law, dim), dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("dim", [2, 5])
def test_the_law_is_the_one_asked_for(law, dim, seed):
    made = latents_from(law, normals(law, 4000, dim, seed))
    drawn = law.draw(seed, torch.arange(4000), dim)
    assert made.dtype == torch.float32
    assert made.shape == drawn.shape
    assert law.log_density(made).isfinite().all()
    for statistic in (lambda z: z[:, 0], lambda z: z[:, -1], lambda z: z.norm(dim=1),
                      lambda z: z.abs().amax(1), lambda z: z[:, 0] * z[:, 1]):  # fmt: skip
        a, b = statistic(made.double()).numpy(), statistic(drawn.double()).numpy()
        if a.std() > 1e-5:  # the norm on a sphere
            assert ks_2samp(a, b).pvalue > LEVEL


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_far_out_normals_stay_on_the_support(law):
    x = torch.tensor([[40.0, -40.0, 1e-9, 8.0, -8.0, 0.5]], dtype=torch.float64)[:, : reference_dim(law, 3)]
    assert law.log_density(latents_from(law, x)).isfinite().all()


def test_only_laws_of_the_library():
    with pytest.raises(ValueError, match="expected one of polarity_sampling's laws"):
        latents_from("normal", torch.zeros(1, 2))
