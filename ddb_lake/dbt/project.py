"""Write a dbt project for a lake: the project files, our macros, and the models of its tables."""

from __future__ import annotations

from collections.abc import Iterator
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
        if not force and path.exists() and MARK not in path.read_text(encoding="utf-8")[:200]:
            raise UsageError(f"{path} was not written by this command", hint="--force replaces it")
    return list(_write(files))


def write_frame(folder: Path) -> list[Path]:
    """Write the project files and our macros into `folder`.

    If it has a `dbt_project.yml`, only macros that were written before are updated.

    Returns:
        The paths of the files that changed.
    """
    shipped = resources.files("ddb_lake.dbt").joinpath("project")
    files = {
        folder / "macros" / "ddb_lake" / path: text for path, text in _texts(shipped.joinpath("macros")) if path != ""
    }
    if (folder / "dbt_project.yml").exists():
        ours = (folder / "macros" / "ddb_lake").is_dir()
        return list(_write(files)) if ours else []
    for name in ("dbt_project.yml", "profiles.yml", ".gitignore"):
        text = shipped.joinpath(name.removeprefix(".")).read_text(encoding="utf-8")
        files[folder / name] = text
    return list(_write(files))


def _texts(folder: Traversable, at: str = "") -> Iterator[tuple[str, str]]:
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.is_dir():
            yield from _texts(entry, f"{at}{entry.name}/")
        elif entry.name.endswith(".sql"):
            yield f"{at}{entry.name}", entry.read_text(encoding="utf-8")


def _write(files: dict[Path, str]) -> Iterator[Path]:
    for path, text in files.items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        yield path
