"""Imports that a process does not need, left out of its start."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Refusal(MetaPathFinder):
    """Says that a module is not there: always, or as long as another is being imported."""

    def __init__(self, refused: str, importer: str | None) -> None:
        self.refused, self._importer = refused, importer

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  # the protocol's
        target: ModuleType | None = None,  # noqa: ARG002  # the protocol's
    ) -> ModuleSpec | None:
        """Raises ModuleNotFoundError for the refused module; leaves everything else to other finders."""
        if fullname == self.refused and (self._importer is None or _is_importing(self._importer)):
            raise ModuleNotFoundError(
                f"{self.refused} is not imported for {self._importer or 'this process'}", name=fullname
            )
        return None


def _is_importing(module: str) -> bool:
    return bool(getattr(getattr(sys.modules.get(module), "__spec__", None), "_initializing", False))


def spare_pandas(importer: str | None = "pyarrow.dataset") -> None:
    """Keep pyarrow from importing pandas, a third of what opening a lake imports (decision 0033).

    pyarrow looks for it only to recognize its objects. Other imports of pandas work, and pyarrow's
    `to_pandas` then finds it; with None for `importer`, no module in this process can import it.
    """
    if not any(isinstance(finder, _Refusal) and finder.refused == "pandas" for finder in sys.meta_path):
        sys.meta_path.insert(0, _Refusal("pandas", importer))
