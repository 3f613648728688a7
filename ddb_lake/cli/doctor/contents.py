"""What one export and one landing have, in words; and examinations that open one object of each and compare it with the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from ddb_lake.cli.doctor.finding import Finding, fail, ok, warn
from ddb_lake.cli.doctor.subject import TableSubject
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import time_text

if TYPE_CHECKING:
    from ddb_lake.core.values.change_record import Item
    from ddb_lake.pipeline.discovery import FoundExport, FoundLanding

_FORMATS = {"DYNAMODB_JSON": "DynamoDB JSON", "ION": "Amazon Ion"}


def export_text(export: FoundExport) -> str:
    """An export in words."""
    summary = export.export.summary
    kind = "full export" if summary.export_type == "FULL" else "incremental export"
    parts = [
        f"{kind} of {summary.table_name} as of {time_text(summary.as_of_us, unit='s')}",
        count_text(summary.item_count, "item" if summary.export_type == "FULL" else "change"),
        count_text(len(export.export.files), "data file"),
        _FORMATS.get(summary.output_format, summary.output_format),
        *([export.container] if export.container else []),
        *([export.fault] if export.fault else []),
    ]
    return ", ".join(parts)


def landing_text(landing: FoundLanding) -> str:
    """Landed objects in words."""
    records = ", ".join(
        f"{count_text(number, 'change record')} of {name or 'a table that they do not name'}"
        for name, number in landing.records.items()
        if number
    )
    rejected = sum(landing.rejected.values())
    parts = [
        f"{len(landing.opened)} of {count_text(landing.objects, 'object')} opened",
        *sorted(landing.containers),
        "keys with their hour" if landing.is_hourly else "keys without hours",
        records or "no change record",
        *([f"{count_text(rejected, 'part')} not read ({next(iter(landing.rejected))})"] if rejected else []),
    ]
    return ", ".join(parts)


def examine_export_contents(subject: TableSubject) -> Iterator[Finding]:
    """The newest finished export into the configured place has items with the table's key."""
    from ddb_lake.aws.objects import ObjectStore
    from ddb_lake.pipeline.discovery import MOST_LISTED, read_export
    from ddb_lake.pipeline.load.export_files import list_manifests, open_export

    export = subject.settings.export
    assert export is not None, "the registry requires an export"
    store = ObjectStore()
    found = [open_export(store, ref.uri) for ref in islice(list_manifests(store, export.location), MOST_LISTED)]
    own = [one for one in found if one.summary.table_name == subject.settings.source_name]
    if not own:
        others = sorted({one.summary.table_name for one in found})
        where = f"{export.location} has no finished export of {subject.settings.source_name}"
        found_others = f", but of {', '.join(others)}" if others else ""
        yield warn(f"{where}{found_others}", f"`ddb-lake export {subject.settings.name}` makes one")
        return
    newest = read_export(store, max(own, key=lambda one: one.summary.as_of_us).uri)
    if newest.fault is not None:
        yield warn(export_text(newest), "look at the data file; `load` reads all of them")
    elif missing := _missing(subject.settings.key, newest.items):
        yield fail(f"{export_text(newest)}; an item without {missing}", "correct `key`: each item has its attributes")
    else:
        yield ok(export_text(newest))


def examine_landed_contents(subject: TableSubject) -> Iterator[Finding]:
    """One landed object has change records of the table, with its key."""
    from ddb_lake.aws.objects import ObjectStore
    from ddb_lake.pipeline.discovery import MOST_LISTED, read_landing

    changes, settings = subject.settings.changes, subject.settings
    assert changes is not None and changes.uri is not None, "the registry requires a location"
    store = ObjectStore()
    refs = list(islice(store.list(changes.uri), MOST_LISTED)) if store.reachable(changes.uri) else []
    if not refs:
        return  # another examination reports it
    landing = read_landing(store, changes.uri, refs[-1:], settings.key)
    text = f"{refs[-1].uri}: {landing_text(landing)}"
    name = settings.source_name if landing.records[settings.source_name] else None
    if not landing.records[name]:
        step = "correct `changes.uri` or `source.table`; records of other tables stay in landing"
        if not landing.records:
            step = "`ddb-lake apply` puts what it cannot read into quarantine; the reason names the next step"
        yield warn(text, step)
    elif settings.key and set(landing.keys.get(name, ())) != set(settings.key):
        found = ", ".join(landing.keys.get(name, ()))
        yield fail(f"{text}; their key is {found}", "correct `key`: records with another key go to quarantine")
    elif landing.rejected:
        yield warn(text, "the reason names the next step; `ddb-lake apply` puts such parts into quarantine")
    else:
        yield ok(text)


def _missing(key: Sequence[str], items: Sequence[Item]) -> str | None:
    """The key attributes that an item lacks, in words; None if each item has all of them."""
    missing = next((absent for item in items if (absent := [name for name in key if name not in item])), None)
    return None if missing is None else " and ".join(f"`{name}`" for name in missing)
