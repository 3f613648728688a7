"""Folders that are made once for several tests.

`made_once` makes a folder that the tests of all processes read: pytest-xdist spreads them over several. `RestoredFolder` is for tests
that change what they get.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of this run of pytest. The first process that calls this makes it; the others wait.

    `make` creates the folder. If it fails, the next call starts again without it. Tests only read the folder.
    """
    root = factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder, made = root / name, root / f"{name}.made"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            made.touch()
    return folder


class RestoredFolder:
    """A folder that is made once in this process, and put back as it was made for each test.

    Files of a lake name each other by absolute paths, so the folder has the same path each time. Nothing may have it open
    while it is put back.
    """

    def __init__(self, folder: Path, make: Callable[[Path], None]) -> None:
        make(folder)
        self.folder = folder
        self._made = folder.with_name(f"{folder.name}.made")
        shutil.copytree(folder, self._made)

    def restore(self) -> Path:
        """The folder as it was made, with the same times of modification."""
        shutil.rmtree(self.folder)
        shutil.copytree(self._made, self.folder)
        return self.folder
