import pytest
from polarity_sampling.bank.build import Budget
from polarity_sampling.bank.progress import row_progress


def advance_through(shown: bool) -> None:
    with row_progress(20, 100, shown, lambda done: 100) as advance:
        for _ in range(8):
            advance(10)


def test_bar_goes_to_stderr_of_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    advance_through(shown=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "100/100" in err
    assert "latents/s" in err


def test_nothing_is_shown_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    advance_through(shown=True)
    assert capfd.readouterr().err.strip() == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    advance_through(shown=False)
    assert capfd.readouterr() == ("", "")


def test_time_budget_foresees_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    budget = Budget(max_seconds=100.0, min_rows=30, started=0.0)
    now = 10.0
    assert budget.foresee(before=0, rows=50, n=10_000) == 500
    assert budget.foresee(before=40, rows=50, n=10_000) == 140
    assert budget.foresee(before=0, rows=50, n=300) == 300
    assert budget.foresee(before=0, rows=1, n=300) == 30
    now = 200.0  # over time: what is there
    assert budget.foresee(before=0, rows=50, n=10_000) == 50
    assert Budget(None, 1).foresee(before=0, rows=50, n=10_000) == 10_000
