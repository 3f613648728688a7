"""The versions of pyiceberg that work. `lake.commit` extends private classes of pyiceberg, which any version may change."""

from __future__ import annotations

from ddb_lake.errors import ConfigError

KNOWN_VERSIONS = ("0.11.1", "0.12.0")
"""The oldest and the newest version of the range in `pyproject.toml`. The tests run with each: `make ends`."""


def check_version(version: str) -> None:
    """Raise ConfigError if `version` is not in `KNOWN_VERSIONS`."""
    if version not in KNOWN_VERSIONS:
        raise ConfigError(
            f"pyiceberg {version} is installed; this version of ddb_lake works with {' and '.join(KNOWN_VERSIONS)} only",
            hint=f"pip install 'pyiceberg[glue,sql-sqlite]=={KNOWN_VERSIONS[-1]}'",
        )
