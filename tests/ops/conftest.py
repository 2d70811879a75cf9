from collections.abc import Iterator

import pytest
import torch

from tests.ops.backends import BACKENDS, DEVICES, TABLE_BACKENDS, Backend


@pytest.fixture(autouse=True)
def random_inputs(seed: int) -> None:
    torch.manual_seed(seed)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, seed: int) -> Iterator[Backend]:
    """Every way the public functions can run here: for tests of values."""
    with request.param.active(seed):
        yield request.param


@pytest.fixture(params=TABLE_BACKENDS)
def table_backend(request: pytest.FixtureRequest, seed: int) -> Iterator[Backend]:
    """Every way the raw ops can run here, emulated too: for the case table."""
    with request.param.active(seed):
        yield request.param


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """cpu and cuda: for tests of derivatives and dispatch, which do not depend on the instruction set."""
    return str(request.param.device)
