"""One run of the command line: its configuration, and the lake that it opens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import click

from ddb_lake.cli.output.progress import Reporter

if TYPE_CHECKING:
    from ddb_lake.config import LakeSettings
    from ddb_lake.pipeline.open_lake import Lake


Engine: TypeAlias = Literal["duckdb", "spark"]


@dataclass(slots=True)
class Invocation:
    """The options that all commands share."""

    config: Path | None = None
    debug: bool = False

    def file(self) -> Path:
        """The configuration file. Raises ConfigError if there is none."""
        from ddb_lake.config import find_file

        return self.config or find_file(Path.cwd())

    def settings(self) -> LakeSettings:
        """Read the configuration. Raises ConfigError."""
        from ddb_lake.config import load_settings

        return load_settings(self.existing_file())

    def existing_file(self) -> Path:
        """The configuration file. Raises ConfigError if it does not exist."""
        from ddb_lake.errors import ConfigError

        file = self.file()
        if not file.exists():
            raise ConfigError(
                f"{file}: no such file", hint=f"name another with --config, or write it with `ddb-lake init {file}`"
            )
        return file

    @contextmanager
    def lake(self, *tables: str, bars: bool = True, engine: Engine | None = None) -> Iterator[Lake]:
        """Open the lake, with progress and warnings on stderr.

        Args:
            tables: names of tables; each must be configured.
            bars: whether progress bars may be shown (on a terminal only).
            engine: the engine of this run, in place of the configured one.

        Raises:
            ConfigError: the configuration is wrong, or a table is not in it.
        """
        settings = self.settings()
        for table in tables:
            settings.table(table)
        if engine is not None:
            settings = settings.with_engine(engine)
        from ddb_lake.executors import open_lake

        with Reporter(bars) as reporter, open_lake(settings, reporter.progress, reporter.warn) as lake:
            yield lake


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)
