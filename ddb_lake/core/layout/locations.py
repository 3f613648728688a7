"""Comparison of locations: one canonical spelling for all ways to write a folder or prefix."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

_S3 = re.compile(r"^s3[an]?://", re.IGNORECASE)
_FILE = re.compile(r"^file:(//)?(?=/)", re.IGNORECASE)


def spelled(uri: str) -> str:
    """The canonical spelling of a location: `s3://…` for `s3a://…` and `s3n://…`, an absolute path for a local one.

    Symbolic links in the parent of a local path are resolved, as far as it exists. A `~` is the home directory; if it is
    unknown, the path is taken as it is written.
    """
    if _S3.match(uri):
        return _S3.sub("s3://", uri).rstrip("/")
    if "://" in uri and not _FILE.match(uri):
        return uri.rstrip("/")
    path = Path(_FILE.sub("", uri))
    with suppress(RuntimeError):  # the home directory is unknown
        path = path.expanduser()
    path = path.absolute()
    return (
        f"{str(path.parent.resolve()).rstrip('/')}/{path.name}" if path.name not in ("", "..") else str(path.resolve())
    )


def is_local_uri(uri: str) -> bool:
    """Whether a location is a folder of this machine: a path, or `file://`."""
    return "://" not in uri.rstrip("/") or _FILE.match(uri) is not None


def is_within(uri: str, folder: str) -> bool:
    """Whether a location is `folder` or below it."""
    inner, outer = resolved(uri), resolved(folder)
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def resolved(uri: str) -> str:
    """`spelled`, with a symbolic link at the end of a local path resolved too."""
    found = spelled(uri)
    return found if "://" in found else str(Path(found).resolve())
