import pytest

from tests.emulator import build as emulator


@pytest.fixture(autouse=True)
def emulator_can_be_built() -> None:
    reason = emulator.why_not()
    if reason:
        pytest.skip(reason)
