"""The certificate itself: Weyl's bound holds, stays finite above the floor, is infinite below it."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from polarity_sampling.volume.certificate import log_volume_and_error


def one(sigma, floor=0.0, eta=0.0, delta=0.0):
    columns = torch.tensor([sigma], dtype=torch.float64)
    bounds = (torch.tensor([v], dtype=torch.float64) for v in (floor, eta, delta))
    value, error = log_volume_and_error(columns, *bounds)
    return float(value[0]), float(error[0])


@given(
    st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=6),
    st.floats(0, 1e-3),
    st.floats(-1, 1),
)
def test_any_perturbation_within_eta_stays_inside(sigma, eta, shift):
    floor = 1e-8
    value, error = one(sigma, floor, eta)
    moved = torch.tensor(sigma, dtype=torch.float64) + shift * eta
    truth = float(torch.log(torch.clamp(moved, min=floor)).sum())
    assert abs(value - truth) <= error + 1e-12


@given(st.floats(1e-3, 1e3), st.floats(0, 1e-7), st.floats(-1, 1))
def test_any_perturbation_of_the_square_within_delta_stays_inside(sigma, relative, shift):
    delta = relative * sigma**2
    value, error = one([sigma], 0.0, 0.0, delta)
    truth = 0.5 * torch.log(torch.tensor(sigma**2 + shift * delta, dtype=torch.float64))
    assert abs(value - float(truth)) <= error + 1e-12


def test_infinite_exactly_below_the_floor():
    assert one([1.0, 2e-5], 1e-5, 3e-5)[1] < float("inf")  # uncertain, but above the floor
    assert one([1.0, 1e-5], 1e-5, 0.0)[1] == float("inf")
    assert one([1.0, 0.0], 1e-5, 0.0) == (
        float(torch.log(torch.tensor(1e-5, dtype=torch.float64))),
        float("inf"),
    )


def test_unknown_bounds_give_unknown_errors():
    value, error = one([2.0], 1e-5, float("nan"))
    assert value == float(torch.log(torch.tensor(2.0, dtype=torch.float64)))
    assert error != error
