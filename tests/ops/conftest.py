from collections.abc import Iterator

import pytest
import torch

from tests.ops.backends import BACKENDS, DEVICES, Backend


@pytest.fixture(autouse=True)
def random_inputs(seed: int) -> None:
    torch.manual_seed(seed)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every way the kernels can run here: for tests of values."""
    with request.param.active():
        yield request.param


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """cpu and cuda: for tests of derivatives and dispatch, which do not depend on the instruction set."""
    return str(request.param.device)
