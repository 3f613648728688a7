"""Write a dbt project for a lake: the project files, our dbt package of macros, and the models of its tables."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from importlib import resources
from importlib.abc import Traversable
from pathlib import Path

from ddb_lake.config import TableSettings
from ddb_lake.core.layout.table_names import entity_table
from ddb_lake.dbt.models import MARK, TableModels
from ddb_lake.errors import UsageError
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.open_lake import Lake

PACKAGE = Path("packages") / "ddb_lake"
"""The folder, in a project, of our dbt package: the macros and tests that the models use."""

_NOT_OURS = frozenset({"target", "logs", "packages", "dbt_packages", ".venv", ".git"})


def table_models(lake: Lake, name: str) -> TableModels:
    """The models of a table. Raises UsageError if the lake has no rows of it yet."""
    settings: TableSettings = lake.table(name)
    table = lake.current(name)
    if table is None:
        raise UsageError(
            "the lake has no rows of it yet, so its columns are not known", table=name, hint="load or apply first"
        )
    schema = CurrentState.of(table).schema
    keep_expired = any(field.name == "_expired_at" for field in table.schema().fields)
    entities = {}
    for entity in settings.entity_names:
        full_name = entity_table(name, entity)
        rows = lake.readable(full_name)
        state = EntityState.of(rows) if rows is not None else None
        if state is None:
            raise UsageError(
                "the table of this entity was not written yet, so its columns are not known",
                table=full_name,
                hint=f"`ddb-lake sync {name}` writes it",
            )
        entities[entity] = TableModels(full_name, state.schema, keep_expired=keep_expired)
    return TableModels(name, schema, settings.clock_skew_us // 1_000_000, keep_expired, entities)


def write_models(folder: Path, models: TableModels, force: bool = False) -> list[Path]:
    """Write the models of a table.

    Returns:
        The paths of the files that changed.

    Raises:
        UsageError: a file exists that this function has not written, and `force` is not set.
    """
    files = {folder / path: text for path, text in models.files().items()}
    for path in files:
        if not force and path.exists() and not _is_generated(path):
            raise UsageError(f"{path} was not written by this command", hint="--force replaces it")
    return list(_write(files))


def write_frame(folder: Path) -> list[Path]:
    """Write the project files and our dbt package into `folder`, and install the package as `dbt deps` does.

    If it has a `dbt_project.yml`, only a package that was written before is updated: other projects add the package by their own
    packages.yml. Macros that an earlier release wrote to `macros/ddb_lake` give way to the package.

    Returns:
        The paths of the files that changed.
    """
    shipped, package = (resources.files("ddb_lake.dbt").joinpath(name) for name in ("project", "package"))
    former = folder / "macros" / "ddb_lake"
    is_new = not (folder / "dbt_project.yml").exists()
    if not is_new and not former.is_dir() and not (folder / PACKAGE).is_dir():
        return []
    names = ("dbt_project.yml", "profiles.yml", ".gitignore", "packages.yml")
    files = {
        folder / name: shipped.joinpath(name.removeprefix(".")).read_text(encoding="utf-8")
        for name in names
        if is_new or (name == "packages.yml" and not (folder / name).exists())
    }
    files |= {folder / PACKAGE / path: text for path, text in _texts(package)}
    if former.is_dir():
        shutil.rmtree(former)
    written = list(_write(files))
    install_package(folder)
    return written


def install_package(folder: Path) -> None:
    """Install the package of a project's folder `packages`, as `dbt deps` does: by a link in `dbt_packages`."""
    installed = folder / "dbt_packages" / "ddb_lake"
    installed.parent.mkdir(exist_ok=True)
    if not installed.is_symlink() and installed.is_dir():  # a copy: dbt makes one where links are not allowed
        shutil.copytree(folder / PACKAGE, installed, dirs_exist_ok=True)
        return
    with suppress(FileExistsError):
        installed.symlink_to(Path("..") / PACKAGE, target_is_directory=True)


def remove_former(folder: Path, models: TableModels) -> list[Path]:
    """Remove the files of a table's models that have other names now. Only files that `write_models` wrote are removed.

    Returns:
        The paths of the removed files.
    """
    kept = {folder / path for path in models.files()}
    found = [folder / path for path in models.former_files()]
    removed = [path for path in found if path not in kept and path.is_file() and _is_generated(path)]
    for path in removed:
        path.unlink()
        with suppress(OSError):  # it has other files
            path.parent.rmdir()
    return removed


def former_references(folder: Path, models: TableModels) -> list[tuple[Path, str, str]]:
    """Where files of the project name a model by its former name.

    Returns:
        The path of the file, the former name and the name now, of each reference by `ref`.
    """
    renamed = models.renamed()
    pattern = re.compile(r"""\bref\(\s*['"](""" + "|".join(map(re.escape, renamed)) + r""")['"]""")
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".sql", ".yml", ".yaml") and not _NOT_OURS & set(path.relative_to(folder).parts)
    ]
    found = [
        (path, name) for path in files for name in dict.fromkeys(pattern.findall(path.read_text(encoding="utf-8")))
    ]
    return [(path, name, renamed[name]) for path, name in found]


def _is_generated(path: Path) -> bool:
    return MARK in path.read_text(encoding="utf-8")[:200]


def _texts(folder: Traversable, at: str = "") -> Iterator[tuple[str, str]]:
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.is_dir():
            yield from _texts(entry, f"{at}{entry.name}/")
        elif entry.name.endswith((".sql", ".yml")):
            yield f"{at}{entry.name}", entry.read_text(encoding="utf-8")


def _write(files: dict[Path, str]) -> Iterator[Path]:
    for path, text in files.items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        yield path
