import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.models import load_spec
from polarity_sampling.samplers import effective_sample_sizes

from tests.cli.conftest import Polarity


def test_build_passes_every_option_on(polarity: Polarity, folder: Path) -> None:
    result = polarity(
        "bank", "build", "--model", "models.py:conditional", "--out", "b", "-n", 40, "--top-k", "3",
        "--seed", 5, "--proposal", "ball:2.5", "--class-prior", "1,0,3", "--store-latents", "--tol", "0.05",
        "--memory", "64MiB", "--batch-size", 8, "--shard-rows", 16, "--threads", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "40 rows, top_k=3 of 4" in result.output
    assert torch.get_num_threads() == 1
    made = ps.Bank.open("b", load_spec("models.py:conditional"))
    asked = ps.Bank.build(
        load_spec("models.py:conditional"), 40, top_k=3, seed=5, proposal=ps.Ball(2.5), class_prior=[1, 0, 3],
        store_latents=True, tol=0.05, memory="64MiB", batch_size=8, shard_rows=16, progress=False,
    )  # fmt: skip
    assert made.metadata.fingerprint() == asked.metadata.fingerprint()
    assert torch.equal(made.singular_values, asked.singular_values)


def test_build_again_is_done_at_once_and_other_settings_are_refused(polarity: Polarity, bank: Path) -> None:
    words = ["bank", "build", "-m", "models.py:pictures", "-o", bank, "--top-k", "all", "--seed", 3]
    before = sorted(path.name for path in bank.iterdir())
    assert "96 rows" in polarity(*words, "-n", 96).output
    assert sorted(path.name for path in bank.iterdir()) == before
    refused = polarity(*words, "-n", 96, "--tol", "0.5")
    assert refused.exit_code == 1
    assert "error:" in refused.output
    assert "tol" in refused.output


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["-m", "no-such-model"], 1, "no-such-model"),
        (["-m", "nowhere.py:make"], 1, "nowhere.py"),
        (["-m", "models.py:nothing"], 1, "nothing"),
        (["-m", "models.py:broken"], 1, "no such checkpoint"),
        (["-m", "models.py:pictures", "-n", "0"], 2, "n=0"),
        (["-m", "models.py:pictures", "--top-k", "9"], 2, "1 to 4"),
        (["-m", "models.py:pictures", "--top-k", "many"], 2, "--top-k many"),
        (["-m", "models.py:pictures", "--proposal", "cube"], 2, "law cube"),
        (["-m", "models.py:pictures", "--class-prior", "0.5,0.5"], 2, "class_prior"),
        (["-m", "models.py:pictures", "--memory", "much"], 2, "memory"),
    ],
)
def test_build_errors(polarity: Polarity, words: list[str], status: int, message: str) -> None:
    result = polarity("bank", "build", "-o", "b", *words)
    assert result.exit_code == status, result.output
    assert result.stderr.startswith("error: ")
    assert message in result.stderr


def test_build_interrupted_says_how_to_resume(folder: Path) -> None:
    """Ctrl-C, as it comes from a terminal: status 130, a bank that the same command goes on with."""
    words = [
        "bank", "build", "-m", "models.py:pictures", "-o", "b", "--top-k", "all", "--threads", "1",
        "--batch-size", "32", "--shard-rows", "32",
    ]  # fmt: skip
    command = [sys.executable, "-c", "from polarity_sampling.cli import main; main()", *words]
    build = subprocess.Popen(
        [*command, "-n", "10000000"],
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background ignores SIGINT, and children inherit that: a terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120.0
        while not list(folder.glob("b/shard-000001.parquet")):
            assert build.poll() is None, build.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(build.pid, signal.SIGINT)
        stderr = build.communicate(timeout=60)[1]
    finally:
        build.kill()
    assert build.returncode == 130
    assert "\ninterrupted: stopped with " in "\n" + stderr  # torch may warn before it
    assert "resumes" in stderr
    resumed = subprocess.run([*command, "-n", "64"], capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    whole = ps.Bank.build(
        load_spec("models.py:pictures"), 64, top_k=None, batch_size=32, shard_rows=32, progress=False
    )
    assert torch.equal(ps.Bank.open("b").singular_values[:64], whole.singular_values)


def test_info_shows_what_matters(polarity: Polarity, bank: Path) -> None:
    result = polarity("bank", "info", bank)
    assert result.exit_code == 0, result.output
    metadata = ps.Bank.open(bank).metadata
    assert metadata.weight_hash is not None
    for text in ("96, complete", "models:pictures", metadata.weight_hash, "4 of 4", "seed 3", "Normal"):
        assert text in result.output
    assert f"{float(ps.Bank.open(bank).log_volume(2)[0].quantile(0.5)):.2f}" in result.output
    size = float(effective_sample_sizes(ps.Bank.open(bank), [-0.5], 4)[0])
    assert (f"{size:,.0f}" if size >= 10 else f"{size:.1f}") in result.output


def test_info_of_an_unfinished_bank(polarity: Polarity, bank: Path) -> None:
    metadata = ps.Bank.open(bank).metadata
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polarity_sampling.bank.shards.complete_rows", lambda *_: 32)
        patch.setattr("polarity_sampling.cli.bank_report.complete_rows", lambda *_: 32)
        result = polarity("bank", "info", bank)
    assert result.exit_code == 0
    assert f"32 of {metadata.n}: INCOMPLETE" in result.output


def test_info_leaves_out_what_is_flagged(polarity: Polarity, folder: Path) -> None:
    """A generator of rank 2 in R^4: at top_k=4 every row is flagged."""
    (folder / "flat.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef make():\n    torch.manual_seed(1)\n"
        "    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2), nn.Linear(2, 6))\n"
    )
    assert (
        polarity("bank", "build", "-m", "flat.py:make", "-o", "b", "-n", 32, "--top-k", "all").exit_code == 0
    )
    result = polarity("bank", "info", "b")
    assert result.exit_code == 0, result.output
    assert "flagged (below the noise floor)" in result.output


def test_info_of_no_bank(polarity: Polarity) -> None:
    result = polarity("bank", "info", "nowhere")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "not a bank" in result.stderr


def test_export_and_import_keep_the_values(polarity: Polarity, bank: Path) -> None:
    assert polarity("bank", "export", bank, "out.npz").exit_code == 0
    with np.load("out.npz") as arrays:
        assert arrays["svds"].shape == (96, 4)
    assert polarity("bank", "import", "out.npz", "again.bank", "-m", "models.py:pictures").exit_code == 0
    before, after = ps.Bank.open(bank), ps.Bank.open("again.bank", load_spec("models.py:pictures"))
    assert torch.equal(before.singular_values, after.singular_values)
    assert torch.equal(before.latents(before.row_ids), after.latents(after.row_ids))
    assert "unknown" in polarity("bank", "info", "again.bank").output  # error bounds


def test_import_without_a_model_takes_base_and_name(polarity: Polarity, bank: Path) -> None:
    polarity("bank", "export", bank, "out.npz")
    result = polarity("bank", "import", "out.npz", "b", "--base", "normal:0,2", "--name", "mine")
    assert result.exit_code == 0, result.output
    assert ps.Bank.open("b").base == ps.Normal(0.0, 2.0)
    assert ps.Bank.open("b").metadata.model == "mine"


def test_export_overwrites_only_by_force(polarity: Polarity, bank: Path) -> None:
    Path("out.npz").write_bytes(b"dear to me")
    refused = polarity("bank", "export", bank, "out.npz")
    assert refused.exit_code == 1
    assert "--force" in refused.stderr
    assert Path("out.npz").read_bytes() == b"dear to me"
    assert polarity("bank", "export", bank, "out.npz", "--force").exit_code == 0
    assert np.load("out.npz")["svds"].shape == (96, 4)


def test_import_of_something_else(polarity: Polarity) -> None:
    Path("wrong.npz").write_bytes(b"not an archive")
    result = polarity("bank", "import", "wrong.npz", "b")
    assert result.exit_code == 1
    assert "wrong.npz" in result.stderr
    assert not Path("b").exists() or not list(Path("b").glob("*.parquet"))
