"""The models of AWS's services, read once a process: each session of botocore reads and parses them again.

A test has sessions of its own, for its credentials, and a client of a new session takes 0.1 s of processor time, nearly all of it
for the JSON of endpoints and of the service's model.
"""

from __future__ import annotations

from typing import Any, Final

import botocore.session
from botocore.loaders import Loader, create_loader

_CACHE: Final[dict[Any, Any]] = {}


def share_models() -> None:
    """Let all sessions that are created from now on share what their loaders have read."""
    botocore.session.create_loader = _create_sharing_loader


def _create_sharing_loader(search_path_string: str | None = None) -> Loader:
    loader = create_loader(search_path_string)
    loader._cache = _CACHE  # that of `botocore.loaders.instance_cache`; a session's clients share it in any case
    return loader
