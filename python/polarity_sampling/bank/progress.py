"""The progress bar of a bank build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def row_progress(
    done: int, total: int, shown: bool, estimate: Callable[[int], int]
) -> Iterator[Callable[[int], None]]:
    """A bar over rows with rate and time left, on a terminal only; yields the function that advances it.

    Args:
        done, total: rows to begin with, and in all.
        shown: False shows nothing.
        estimate: the total as now foreseen, from the rows done by this call; a time budget moves it.
    """
    if not shown:
        yield lambda rows: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.1f} latents/s")

    console = Console(stderr=True)
    columns = ("bank", BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    hidden = not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, speed_estimate_period=120) as bar:
        task = bar.add_task("bank", total=total, completed=done)

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            bar.update(task, completed=done, total=estimate(done))

        yield advance
