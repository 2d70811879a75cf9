"""Seeds that change with the code, shown by failures; why GPU tests did not run."""

import hashlib
import os
import secrets
import subprocess
from pathlib import Path

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
    parser.addoption("--fresh", action="store_true", help="random inputs that no run had before")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("hypothesis_seed") is None and not config.getoption("--fresh"):
        config.option.hypothesis_seed = str(seed_of("hypothesis"))


def committed_code() -> str:
    """Names what the commit holds of code; where there is no git, a name of its own for every process."""
    command = ["git", "rev-parse", "HEAD:csrc", "HEAD:polarity_ext", "HEAD:python", "HEAD:tests"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return secrets.token_hex()
    return found.stdout


CODE = committed_code()


def seed_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256((CODE + name).encode()).digest()[:4]) >> 1


@pytest.fixture(autouse=True)
def seed(request: pytest.FixtureRequest) -> int:
    """The test's own seed: new with every commit that changes code, equal wherever it is tested.

    So a red run can be repeated, and a commit that passed does not fail elsewhere by its draws.
    torch's generator starts from it too. A failure shows it, and --seed gives it back.
    """
    value: int | None = request.config.getoption("--seed")
    if value is None:
        fresh = request.config.getoption("--fresh")
        value = secrets.randbits(31) if fresh else seed_of(request.node.nodeid)
    print(f"random inputs from --seed {value}")
    torch.manual_seed(value)
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
