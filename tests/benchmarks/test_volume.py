"""The benchmarks of log-volumes: peers compute what they claim, and the study says who is inside."""

import csv
from dataclasses import replace

import polarity_sampling as ps
import pytest
import torch
from torch import nn

from benchmarks.volume import peers, plot, speed, study
from benchmarks.volume.models import ONE_STEP, latents, load
from tests import oracle


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 150)).eval()
    return ps.Generator(module, 6, name="small")


def test_accurate_peers_agree_with_the_truth(generator):
    z = torch.randn(5, 6)
    truth = oracle.log_volume(oracle.dense_jacobian(generator, z), 3)
    for peer in (
        peers.chunked_jvp(generator, 3),
        peers.dense_svd(generator, 3),
        peers.stored_low_rank(generator, 3, extra=3, power_steps=2),
    ):
        assert (peer.run(z, None) - truth).abs().max() < 1e-4, peer.name


def test_the_published_algorithm_sees_part_of_the_output(generator):
    """128 of 150 dimensions: below the truth, by less than half a nat for each of three values."""
    z = torch.randn(5, 6)
    truth = oracle.log_volume(oracle.dense_jacobian(generator, z), 3)
    off = peers.published(generator, 3).run(z, None) - truth
    assert ((off < 0) & (off > -1.5)).all()


def test_stochastic_lanczos_is_exact_with_all_steps_in_the_mean(generator):
    z = torch.randn(3, 6)
    truth = oracle.log_volume(oracle.dense_jacobian(generator, z), 6)
    found = peers.stochastic_lanczos(generator, probes=300, steps=6).run(z, None)
    assert (found - truth).abs().max() < 0.5  # 300 probes with a spread of a nat or so each


def test_the_study_goes_on_where_it_was_and_counts(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "load", lambda name: generator)
    monkeypatch.setattr(study, "CHUNK", 6)
    monkeypatch.setattr(study, "RESULTS", tmp_path)
    monkeypatch.setattr(study, "SIZES", (32,))
    monkeypatch.setattr(study, "CONDITIONS", (1e3,))
    folder = tmp_path / "kept"
    folder.mkdir()
    study.study_model("small", 12, folder, seed=7)
    study.study_planted(1, folder, seed=7)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    study.study_model("small", 12, folder, seed=7)
    study.study_planted(1, folder, seed=7)
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    table = {(row["model"], row["route"]): row for row in study.summarise(folder)}
    assert table["small", "exact"]["latents"] == 12
    assert table["small", "exact"]["inside %"] == "100.00"
    assert table["planted 32", "krylov"]["inside %"] == "100.00"
    with (tmp_path / "study.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(table)


def test_speed_has_a_row_for_every_contender_and_keeps_the_last_ones(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "load", lambda name, device: generator)
    monkeypatch.setitem(speed.BUDGETS, "cpu", replace(speed.BUDGETS["cpu"], seconds=0.0))
    monkeypatch.setattr(speed, "FEWEST_ROUNDS", 2)
    rows = speed.measure(speed.Case("small", 3, 4), "cpu")
    by_name = {row.contender: row for row in rows}
    assert len(by_name) == len(speed.contenders(generator, speed.Case("small", 3, 4)))
    assert float(by_name["log_volume, exact"].median_error) < 1e-4
    assert by_name["log_volume, exact"].products == "6"  # in float64, with nothing to check
    assert sum(row.best_peer_over_this == "1.00" for row in rows) >= 1
    assert rows[-1].published_over_this == "1.00"
    path = tmp_path / "speed.csv"
    for case in ("small", "other", "small"):
        speed.keep([replace(row, model=case) for row in rows], path)
    with path.open() as file:
        models = [row["model"] for row in csv.DictReader(file)]
    assert models == ["other"] * len(rows) + ["small"] * len(rows)
    speed.keep([replace(row, latents=5) for row in rows], path)  # another batch is another case
    with path.open() as file:
        assert len(list(csv.DictReader(file))) == 3 * len(rows)


def test_speed_takes_the_batch_of_a_bank(generator, monkeypatch):
    monkeypatch.setattr(speed, "load", lambda name, device: generator)
    monkeypatch.setitem(speed.BUDGETS, "cpu", replace(speed.BUDGETS["cpu"], seconds=0.0))
    monkeypatch.setattr(speed, "FEWEST_ROUNDS", 2)
    rows = speed.measure(speed.Case("small", 3, None), "cpu")
    bank = ps.Bank.build(generator, n=1, top_k=3, seed=0)
    assert {row.latents for row in rows} == {bank.metadata.batch_size}


def test_slow_peers_are_run_once_and_those_out_of_memory_are_left_out(generator, monkeypatch, capsys):
    monkeypatch.setattr(speed, "load", lambda name, device: generator)
    monkeypatch.setitem(speed.BUDGETS, "cpu", speed.Budget("1GiB", 0.0, longest=-1.0))
    calls = []

    def dense_svd(*_: object) -> peers.Peer:
        return peers.Peer("dense", lambda z, label: calls.append("dense") or torch.zeros(len(z)).double())

    def too_large(*_: object, **__: object) -> peers.Peer:
        def run(z: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

        return peers.Peer("low rank", run)

    monkeypatch.setattr(peers, "dense_svd", dense_svd)
    monkeypatch.setattr(peers, "stored_low_rank", too_large)
    rows = {row.contender: row for row in speed.measure(speed.Case("small", 3, 4), "wall")}
    assert calls == ["dense"]
    assert float(rows["dense"].ms_per_latent) > 0
    assert "low rank" not in rows
    assert "low rank needs more memory" in capsys.readouterr().out


def test_a_gpu_has_every_model_once_for_each_number_of_values():
    keys = [(case.model, case.top_k) for case in speed.cases("cuda")]
    assert len(keys) == len(set(keys))
    assert set(keys) == {(c.model, c.top_k) for c in speed.CASES}
    assert speed.cases("cpu") == speed.CASES


def test_the_one_step_generator_is_captured_by_rules_alone():
    generator = load(ONE_STEP)
    z, _ = latents(generator, 0, 1)
    assert generator.latent_dim == generator(z).numel() == 3072
    assert ps.jacobian(generator, z).explain().fallbacks == ()
    case = next(case for case in speed.CASES if case.model == ONE_STEP)
    names = [contender.name for contender in speed.contenders(generator, case)]
    assert len(names) == len(set(names)) == 4


def test_generators_latents_and_peers_are_on_one_device():
    """The device without numbers refuses to meet the CPU's tensors as a GPU does."""
    generator = load("planted_512", "meta")
    z, label = latents(generator, 0, 2)
    assert generator.device.type == z.device.type == "meta"
    for peer in (
        peers.chunked_jvp(generator, 3),
        peers.dense_svd(generator, 3),
        peers.stored_low_rank(generator, 3, extra=3, power_steps=2),
        peers.published(generator, 3),
    ):
        assert peer.run(z, label).device.type == "meta", peer.name


@pytest.mark.gpu
def test_speed_on_a_gpu(monkeypatch):
    monkeypatch.setitem(speed.BUDGETS, "cuda", replace(speed.BUDGETS["cuda"], seconds=0.0))
    case = speed.Case("mlp_64_256_256_784", 10, 64, 16).on("cuda")
    rows = {row.contender: row for row in speed.measure(case, "wall", "cuda")}
    assert {row.latents for row in rows.values()} == {16}
    assert len(rows) == len(speed.contenders(load(case.model, "cuda"), case))
    for name, row in rows.items():
        if name.startswith("log_volume"):
            assert float(row.median_error) <= speed.MEDIAN_ERROR, name


def test_curves_fall_with_the_products(generator):
    for name, points in plot.curves(generator).items():
        first, last = sorted(points)[0], sorted(points)[-1]
        assert last[1] <= first[1] + 1e-12, name  # rounding, where both are exact
