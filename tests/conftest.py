"""Fresh seeds that failures name, and GPU tests that say when and why they did not run."""

import os
import secrets

import hypothesis
import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores, and so does what they start
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"

hypothesis.settings.register_profile("default", deadline=None, print_blob=True)
hypothesis.settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="seed of the random inputs, as a failed test printed it")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A new seed for every test; shown with a failure, and given back to it with --seed."""
    given = request.config.getoption("--seed")
    value = secrets.randbits(31) if given is None else given
    print(f"random inputs from --seed {value}")
    return value


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    reason = f"no CUDA device (torch {torch.__version__})"
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "gpu" in report.keywords]
    if skipped:
        reasons = sorted({str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped})
        terminalreporter.write_line(f"{len(skipped)} GPU tests did not run: {'; '.join(reasons)}")
