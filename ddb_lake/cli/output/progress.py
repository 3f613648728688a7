"""Progress bars, warnings and notes of a command, on stderr. Bars are drawn only on a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from ddb_lake.cli.output.terminal import Styled, echo
from ddb_lake.core.operations.display_text import escape_controls

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Reporter:
    """Prints progress and warnings; a context manager. A bar is drawn only if stderr is a terminal."""

    def __init__(self, bars: bool = True) -> None:
        self._enabled = bars and sys.stderr.isatty()
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def progress(self, what: str, done: int, total: int | None = None) -> None:
        """Show that `done` of `total` units of `what` are done; `total` is None if it is unknown."""
        if not self._enabled:
            return
        progress = self._progress or self._show_bars()
        if what not in self._tasks:
            self._tasks[what] = progress.add_task(escape_controls(what), total=total, rate="")
        task = self._tasks[what]
        progress.update(task, completed=done, total=total)
        progress.update(task, rate=rate_text(progress.tasks[progress.task_ids.index(task)].speed))

    def warn(self, message: str) -> None:
        """Print a warning: a fact that the user should know and that is no error."""
        if self._progress is not None:
            text = escape_controls(f"Warning: {message}")
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
            return
        echo(Styled("Warning:", fg="yellow"), f" {message}", err=True)

    def _show_bars(self) -> Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._progress.start()
        return self._progress


def rate_text(per_second: float | None) -> str:
    """A rate in units a second, or a minute if it is below one a second."""
    if not per_second:
        return ""
    return f"{per_second:,.0f}/s" if per_second >= 1 else f"{per_second * 60:,.0f}/min"


def warn(message: str) -> None:
    """Print a warning on stderr, where no progress is shown."""
    Reporter(bars=False).warn(message)


def note(message: str) -> None:
    """Print a note on stderr: a fact that requires no action."""
    echo(f"Note: {message}", err=True)
