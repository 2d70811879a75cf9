"""The switches of torch that decide how a GPU multiplies float32: set within calls, and put back."""

import pytest
import torch
from polarity_sampling import precision


@pytest.fixture(autouse=True)
def _as_found():
    before = precision.fp32_precisions()
    yield
    precision.set_fp32_precisions(before)


def state() -> tuple[list[str], bool]:
    return precision.fp32_precisions(), torch.backends.cudnn.deterministic


@pytest.mark.parametrize("user", ["tf32", "ieee", "none"])
def test_calls_within_each_other_put_back_what_the_first_one_found(user: str) -> None:
    for kind in precision.fp32_kinds():
        kind.fp32_precision = user
    found, exact = state(), (["ieee"] * 3, True)
    switches = precision._GpuSwitches()
    with switches.exact():
        with switches.exact():
            assert state() == exact
        assert state() == exact
    assert state() == found


def test_calls_of_two_threads_put_back_what_was_there_before_both() -> None:
    found, switches = state(), precision._GpuSwitches()
    first, second = switches.exact(), switches.exact()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert state() == (["ieee"] * 3, True)
    second.__exit__(None, None, None)
    assert state() == found


def test_an_error_puts_them_back() -> None:
    found = state()
    with pytest.raises(ZeroDivisionError), precision._GpuSwitches().exact():
        raise ZeroDivisionError
    assert state() == found


@pytest.mark.gpu
def test_matrix_products_are_exact_whichever_switch_was_set() -> None:
    a = torch.randn(512, 512, device="cuda")
    exact = a.double() @ a.double()

    @precision.in_full_precision
    def product() -> float:
        return float(((a @ a).double() - exact).norm() / exact.norm())

    torch.backends.cuda.matmul.fp32_precision = "tf32"
    assert product() < 1e-6
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
