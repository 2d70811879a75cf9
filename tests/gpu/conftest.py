import pytest

from tests.gpu.machine import Cpu, Cuda, Machine


@pytest.fixture(
    params=[pytest.param(Cpu(), id="cpu"), pytest.param(Cuda(), id="cuda", marks=pytest.mark.gpu)]
)
def machine(request: pytest.FixtureRequest) -> Machine:
    """A GPU, and a stand-in for it (machine.py)."""
    chosen: Machine = request.param
    return chosen
