"""The release of this package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """The version, such as `0.1.0`; `unknown` if the package is on the path without being installed."""
    try:
        return version("ddb-lake")
    except PackageNotFoundError:
        return "unknown"
