"""Which of this project's modules a module needs, found by reading its imports; nothing is imported."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path


def modules_needed(package: Path, name: str) -> list[Path]:
    """The files of `name` and of every module of `package` that it imports, directly or not, sorted.

    `package` is the folder of the top package. Imports inside functions do not count, nor those below
    `if TYPE_CHECKING:`: that is how this project keeps what only some need out of modules that many share.
    """
    found: dict[str, Path] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop()
        path = _file(package, current)
        if path is None or current in found:
            continue
        found[current] = path
        waiting += [".".join(current.split(".")[:end]) for end in range(1, current.count(".") + 1)]
        imported = _imports(path, inside_functions=False)
        waiting += [name for name in imported if name.split(".")[0] == package.name]
    return sorted(found.values())


def third_party(modules: Sequence[Path], own: str) -> set[str]:
    """The top-level names that the modules import, in functions too, from neither Python itself nor the package `own`."""
    names = {name.split(".")[0] for path in modules for name in _imports(path, inside_functions=True)}
    return names - {own} - set(sys.stdlib_module_names)


def _imports(path: Path, inside_functions: bool) -> Iterator[str]:
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            waiting += node.orelse
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _file(package: Path, name: str) -> Path | None:
    parts = name.split(".")[1:]
    module = package.joinpath(*parts).with_suffix(".py") if parts else package / "__init__.py"
    folder = package.joinpath(*parts) / "__init__.py"
    return module if module.is_file() else folder if folder.is_file() else None
