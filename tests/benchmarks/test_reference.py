"""The comparison with a committed reference: what counts as worse, and what is not compared."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.kernels import __main__ as program
from benchmarks.kernels import device, reference
from benchmarks.kernels.measure import Row
from benchmarks.kernels.timing import Spread
from tests.ops.cases import OPS

KEY = ("gram", "faces", "aten")


def row(**figures: Spread) -> Row:
    once = {"kernel": Spread(1.0, 1.0, 1.0)}
    return Row("gram", "faces", once, once, 1.0, 1.0, figures, figures)


@pytest.mark.parametrize(
    ("now", "before", "verdict"),
    [
        (Spread(2.0, 1.9, 2.1), Spread(3.0, 2.5, 3.5), "worse"),
        (Spread(2.0, 1.9, 2.5), Spread(3.0, 2.5, 3.5), "same"),  # the spreads touch
        (Spread(2.0, 1.0, 3.1), Spread(3.0, 2.9, 3.5), "same"),
        (Spread(3.6, 3.6, 3.7), Spread(3.0, 2.9, 3.5), "better"),
        (Spread(3.0, 2.9, 3.1), Spread(3.0, 2.9, 3.1), "same"),
    ],
)
def test_worse_is_beyond_both_spreads(now: Spread, before: Spread, verdict: str) -> None:
    tables = {KEY: now}, {KEY: before}
    assert reference.worse(*tables) == ([KEY] if verdict == "worse" else [])
    assert reference.better(*tables) == ([KEY] if verdict == "better" else [])


def test_figures_that_are_on_one_side_alone_are_no_verdict() -> None:
    slow = {KEY: Spread(0.1, 0.1, 0.1)}
    other = {("gram", "faces", "cupy"): Spread(9.0, 9.0, 9.0)}
    assert reference.worse(slow, other) == reference.worse(other, slow) == []


def test_passes_join_into_one_spread() -> None:
    passes = [
        [row(aten=Spread(2.0, 1.8, 2.1), roofline=Spread(0.5, 0.4, 0.6))],
        [row(aten=Spread(2.4, 2.2, 2.9), roofline=Spread(0.5, 0.5, 0.5))],
        [row(aten=Spread(2.1, 2.0, 2.3))],
    ]
    table = reference.table_of(passes)
    assert table[KEY] == Spread(2.1, 1.8, 2.9)
    assert table[("gram", "faces", "roofline")] == Spread(0.5, 0.4, 0.6)


def test_a_table_comes_back_from_its_file(tmp_path: Path) -> None:
    settings = {"device": "A, B", "threads": "2"}
    table = {KEY: Spread(2.125, 1.5, 2.5), ("gram", "B=4, D=3", "roofline"): Spread(0.0123, 0.01, 0.5)}
    reference.write(tmp_path / "folder" / "a.csv", settings, table)
    read_settings, read_table = reference.read(tmp_path / "folder" / "a.csv")
    assert read_settings == settings
    assert set(read_table) == set(table)
    for key, spread in read_table.items():  # three digits are kept
        assert spread.median == pytest.approx(table[key].median, rel=5e-3)
        assert (spread.low, spread.high) == (table[key].low, table[key].high)


def test_other_settings_are_named() -> None:
    now = {"device": "A", "threads": "1"}
    assert reference.other_settings(now, now) == []
    assert reference.other_settings(now, {"device": "A", "threads": "2"}) == [
        "threads: 2 in the reference, 1 here"
    ]
    assert reference.other_settings(now, {"device": "A"}) == ["threads: not given in the reference, 1 here"]


@pytest.mark.parametrize("path", sorted(reference.FOLDER.glob("*.csv")), ids=lambda path: path.stem)
def test_committed_references_fit_the_case_table(path: Path) -> None:
    settings, table = reference.read(path)
    assert path.stem == device.file_stem(settings["device"])
    is_gpu = "instruction set" not in settings
    rows = {
        (op.name, case.name)
        for op in OPS.values()
        for case in (op.gpu_cases if is_gpu else op.cases)
        if is_gpu or case.perf
    }
    assert {key[:2] for key in table} <= rows
    assert all(0 < s.low <= s.median <= s.high for s in table.values())


def test_there_is_a_reference() -> None:
    assert list(reference.FOLDER.glob("*.csv"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The program with ceilings known and one small row; the folder of its references."""
    op = OPS["gaussian"]
    small = next(case for case in op.cases if case.name == "f32 ragged")
    monkeypatch.setattr(program, "OPS", {"gaussian": replace(op, cases=[replace(small, perf=True)])})
    monkeypatch.setattr(device, "gemm_flop_per_second", lambda *_: 1e12)
    monkeypatch.setattr(device, "copy_bytes_per_second", lambda *_: 1e10)
    monkeypatch.setattr(reference, "FOLDER", tmp_path / "reference")
    return tmp_path / "reference"


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["benchmarks.kernels", *words, "--peers", "aten"])
    return program.main()


def test_record_then_compare(
    quick: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "compare") == 2
    assert "`record` makes it" in capsys.readouterr().out
    assert (
        run(monkeypatch, "record", "--csv", str(tmp_path / "a.csv"), "--json", str(tmp_path / "a.json")) == 0
    )
    assert (tmp_path / "a.csv").read_text().startswith("op,case,warm_median")
    assert '"gaussian"' in (tmp_path / "a.json").read_text()
    (path,) = quick.iterdir()
    settings, table = reference.read(path)
    assert set(table) == {("gaussian", "f32 ragged", figure) for figure in ("roofline", "aten")}

    slower = {key: Spread(1e-9, 1e-9, 1e-9) for key in table}
    reference.write(path, settings, slower)
    assert run(monkeypatch, "compare") == 0
    assert "2 of 2 figures better" in capsys.readouterr().out
    faster = {key: Spread(1e9, 1e9, 1e9) for key in table}
    reference.write(path, settings, faster)
    assert run(monkeypatch, "compare") == 1
    assert "2 of 2 figures worse" in capsys.readouterr().out
    reference.write(path, settings | {"threads": "77"}, faster)
    assert run(monkeypatch, "compare") == 2
    assert "threads: 77 in the reference" in capsys.readouterr().out
