"""What goes to stderr while a command works: progress bars on a terminal, warnings always."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.output.colour import styled

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Reporter:
    """Shows progress and warnings; use it in a `with`. A bar is drawn only if stderr is a terminal."""

    def __init__(self, bars: bool = True) -> None:
        self._bars = bars and sys.stderr.isatty()
        self._drawn: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn is not None:
            self._drawn.stop()

    def progress(self, what: str, done: int, total: int | None = None) -> None:
        """`done` of `total` units of `what` are done; None: nobody knows how many there are."""
        if not self._bars:
            return
        drawn = self._drawn or self._draw()
        if what not in self._tasks:
            self._tasks[what] = drawn.add_task(what, total=total, rate="")
        task = self._tasks[what]
        drawn.update(task, completed=done, total=total)
        drawn.update(task, rate=rate_text(drawn.tasks[drawn.task_ids.index(task)].speed))

    def warn(self, message: str) -> None:
        """Say something that the user should know and that is no error."""
        line = f"{styled('Warning:', fg='yellow')} {message}"
        if self._drawn is not None:
            self._drawn.console.print(f"Warning: {message}", markup=False, highlight=False, soft_wrap=True)
            return
        click.echo(line, err=True)

    def _draw(self) -> Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        rate = TextColumn("{task.fields[rate]}")
        left = TimeRemainingColumn(elapsed_when_finished=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeElapsedColumn(), left)
        self._drawn = Progress(*columns, console=Console(stderr=True), transient=True)
        self._drawn.start()
        return self._drawn


def rate_text(per_second: float | None) -> str:
    """A speed as people read it: by the second, or by the minute where that would be less than one."""
    if not per_second:
        return ""
    return f"{per_second:,.0f}/s" if per_second >= 1 else f"{per_second * 60:,.0f}/min"


def warn(message: str) -> None:
    """A warning on stderr, outside of any progress."""
    Reporter(bars=False).warn(message)


def note(message: str) -> None:
    """A remark on stderr that asks for nothing."""
    click.echo(f"Note: {message}", err=True)
