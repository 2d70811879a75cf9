import torch
from polarity_sampling.samplers.smc.surrogate import HELD_OUT, fit


def problem(seed, n=1200):
    z = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    label = torch.arange(n) % 3
    return z, label, 5 * z[:, 0].double().sin() + z[:, 1].double().square() + 2.0 * label + 100.0


def test_it_learns(seed):
    z, label, volume = problem(seed)
    guess = fit(z, label, volume, 3, seed, None)
    fresh_z, fresh_label, fresh = problem(seed + 1)
    error = float((guess(fresh_z, fresh_label) - fresh).std())
    assert error < 0.4 * float(fresh.std())
    assert 0.5 < guess.error / error < 2  # what it says of itself, from points held out
    assert len(volume[::HELD_OUT]) == 150
    better = fit(z, label, volume, 3, seed, guess)
    assert better.error <= guess.error * 1.001  # it goes on from where it was


def test_the_same_points_teach_the_same(seed):
    z, _, volume = problem(seed)
    state = torch.get_rng_state()
    first, again = (fit(z, None, volume, 0, 7, None) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.weights, again.weights, strict=True))
    assert torch.equal(torch.get_rng_state(), state)  # no hidden stream is touched
    with torch.no_grad():
        assert torch.equal(first(z, None), again(z, None))


def test_constant_log_volumes_do_no_harm(seed):
    z, _, volume = problem(seed)
    assert fit(z, None, torch.zeros_like(volume), 0, 7, None)(z, None).isfinite().all()
