"""Locations of files compared: one spelling for all ways to write the same folder or prefix."""

from __future__ import annotations

import re
from pathlib import Path

_S3 = re.compile(r"^s3[an]?://", re.IGNORECASE)
_FILE = re.compile(r"^file:(//)?(?=/)", re.IGNORECASE)


def spelled(uri: str) -> str:
    """A location in one spelling: `s3://…` for `s3a://…` and `s3n://…`, an absolute path for a local one.

    Symbolic links of a local path are resolved. If the path does not exist, those of its existing part are.
    """
    if _S3.match(uri):
        return _S3.sub("s3://", uri).rstrip("/")
    if "://" in uri and not _FILE.match(uri):
        return uri.rstrip("/")
    path = Path(_FILE.sub("", uri)).expanduser().absolute()
    return (
        f"{str(path.parent.resolve()).rstrip('/')}/{path.name}" if path.name not in ("", "..") else str(path.resolve())
    )


def is_within(uri: str, folder: str) -> bool:
    """Whether a location is `folder`, or in it or below."""
    inner, outer = resolved(uri), resolved(folder)
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def resolved(uri: str) -> str:
    """`spelled`, with the last part of a local path resolved too, if it is a symbolic link."""
    found = spelled(uri)
    return found if "://" in found else str(Path(found).resolve())
