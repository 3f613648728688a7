"""DuckDB's extensions, which are on the package index up to DuckDB 1.5.5. `make ends` also runs tests with a newer one."""

from __future__ import annotations

from typing import Final

import duckdb

MARKER: Final = (
    "duckdb_wheels: needs an extension of DuckDB; `make ends` leaves it out with a DuckDB that has no wheels"
)

LAST_VERSION: Final = (1, 5, 5)
"""The last version of DuckDB that has extension wheels."""

HAS_WHEELS: Final = tuple(map(int, duckdb.__version__.split(".")[:3])) <= LAST_VERSION
"""Whether tests must find the extensions. The lock file has such a DuckDB."""
