"""Imports that a command does not need, left out of its start."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

SPARED, WHILE = "pandas", "pyarrow.dataset"


class _NotNow(MetaPathFinder):
    """Says that pandas is not there as long as pyarrow.dataset is being imported."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  # the protocol's
        target: ModuleType | None = None,  # noqa: ARG002  # the protocol's
    ) -> ModuleSpec | None:
        """Raises ModuleNotFoundError for pandas then; leaves everything else to other finders."""
        spec = getattr(sys.modules.get(WHILE), "__spec__", None)
        if fullname == SPARED and getattr(spec, "_initializing", False):
            raise ModuleNotFoundError(f"{SPARED} is not imported for {WHILE}", name=fullname)
        return None


def spare_pandas() -> None:
    """Keep pyarrow from importing pandas, a third of what opening a lake imports (decision 0033).

    `pyarrow.dataset` looks for it only to recognise its objects. Whoever imports pandas for its own sake gets it, and
    pyarrow's `to_pandas` then finds it.
    """
    if not any(isinstance(finder, _NotNow) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NotNow())
