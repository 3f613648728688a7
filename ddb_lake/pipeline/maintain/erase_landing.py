"""Removes the records and items of erased keys from landed objects, exports and the documents of the lake.

An object keeps its name. The ledger gets its new version, so the object is not read again, and a rebuild reads it as before, without
the keys. A kill between the two leaves an object of an unknown version; it is read again, and all of its records are known.

An export's manifests are written before its data files. A kill between them leaves data files that still have a key, so the next
erasure writes the same manifests and the rest of the files. Until then the export cannot be loaded.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import orjson
import pyarrow as pa

from ddb_lake.aws.landing_writer import Landing
from ddb_lake.aws.objects import ObjectRef, join
from ddb_lake.config import TableSettings
from ddb_lake.core.decode.envelopes import Outcome
from ddb_lake.core.decode.objects import LocatedOutcome
from ddb_lake.core.decode.record_removal import ReadSettings, RewrittenObject, without_lines, without_records
from ddb_lake.core.layout.export_manifest import ION, md5_text, parse_summary
from ddb_lake.core.layout.locations import is_within
from ddb_lake.core.layout.table_names import REPAIRS_FOLDER, REPORTS_FOLDER, RESTORES_FOLDER
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.core.values.change_record import Rejected
from ddb_lake.core.values.json_text import loads
from ddb_lake.core.values.primary_key import key_text
from ddb_lake.errors import UndecodableError
from ddb_lake.lake.commit import Delta
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import scan_table
from ddb_lake.lake.state import current_state
from ddb_lake.pipeline.apply.ledger import read_ledger, replace_versions
from ddb_lake.pipeline.maintain.erasure import Erasure
from ddb_lake.pipeline.plan.arrivals import landing_roots
from ddb_lake.pipeline.plan.exports_to_load import exports_of_place, is_export_of

SUMMARY = "manifest-summary.json"
_FILES = "manifest-files.json"
_EXPORTS = "/AWSDynamoDB/"
_GZIP = b"\x1f\x8b"
_NOTED = 20
"""The most objects that are named as not reached."""


@dataclass(slots=True)
class LandedFiles:
    """What a walk over landing found.

    Attributes:
        change: objects to change, of `erase_landing`; only counted in a dry run.
        records: the number of records and items of the keys in these objects.
        others: objects that have records of the keys, and were not changed because others wrote them.
        others_records: the number of records and items of the keys in `others`.
        damaged: objects from which the records cannot be removed.
        read: the number of objects that were read.
    """

    change: int = 0
    records: int = 0
    others: list[str] = field(default_factory=list)
    others_records: int = 0
    damaged: list[str] = field(default_factory=list)
    read: int = 0


def erase_landing(erasure: Erasure, dry: bool = False) -> LandedFiles:
    """Remove the keys from landed objects, exports and documents.

    Objects and exports that an AWS service wrote are changed only if the request allows it; without this, the objects that the
    changelog names are reported. `dry`: change nothing.
    """
    found = LandedFiles()
    seen: set[str] = set()
    for ref, is_own in _change_objects(erasure):
        if ref.uri in seen or _EXPORTS in ref.uri:
            continue
        seen.add(ref.uri)
        _erase_object(erasure, ref, found, dry or not (is_own or erasure.request.others_landing), is_own)
    for manifest, is_own in _exports(erasure).items():
        _erase_export(erasure, manifest, found, dry or not (is_own or erasure.request.others_landing), is_own)
    for uri in _document_places(erasure):
        _erase_documents(erasure, uri, found, dry)
    erasure.removed["landing: records"] += found.records
    erasure.removed["landing: objects rewritten"] += found.change
    _report(erasure, found, dry)
    return found


def own_places(erasure: Erasure) -> list[str]:
    """The folders and prefixes whose objects the lake itself wrote, for all tables: a stream's records may be of several tables."""
    lake = erasure.lake
    places = [f"{lake.landing}/{REPAIRS_FOLDER}/{erasure.name}"]
    places += [uri for table in lake.settings.tables if (uri := lake.settings.stream_landing(table)) is not None]
    return places


def _change_objects(erasure: Erasure) -> Iterator[tuple[ObjectRef, bool]]:
    """Landed change objects, and whether the lake wrote them."""
    lake = erasure.lake
    own = own_places(erasure)
    for place in own:
        if lake.objects.reachable(place):
            yield from ((ref, True) for ref in lake.objects.list(f"{place.rstrip('/')}/"))
    tables: Sequence[TableSettings] = (
        lake.settings.tables if erasure.request.others_landing else [lake.table(erasure.name)]
    )
    listed = list(own)
    for table in tables:
        for root in landing_roots(lake, table):
            if not any(is_within(root.uri, place) for place in own) and lake.objects.reachable(root.uri):
                yield from ((ref, False) for ref in lake.objects.list(root.uri) if root.contains(ref.uri))
                listed.append(root.uri)
    named = _named_objects(erasure)
    if (
        erasure.request.others_landing
    ):  # an earlier erasure without it removed the rows by which the changelog names them
        ingested = erasure.session.rows(f"SELECT DISTINCT object FROM {read_ledger(lake, erasure.name).sql()}")
        named |= {uri for (uri,) in ingested if _is_object(uri) and not any(is_within(uri, place) for place in listed)}
    for uri in sorted(named):
        if lake.objects.exists(uri):
            yield from ((ref, any(is_within(uri, p) for p in own)) for ref in lake.objects.list(uri) if ref.uri == uri)


def _named_objects(erasure: Erasure) -> set[str]:
    """The objects in which the changelog found records of the keys first."""
    changes = erasure.lake.changes(erasure.name)
    if changes is None or changes.current_snapshot() is None:
        return set()
    rows = erasure.session.rows(f"SELECT DISTINCT object FROM {scan_table(changes).sql()} WHERE {erasure.of_keys}")
    names = (str(name).partition("#quarantine/")[0] for (name,) in rows)
    return {name for name in names if _is_object(name)}


def _is_object(name: str) -> bool:
    """Whether a name in the ledger or the changelog is that of an object; exports and assertions have others."""
    return name.startswith(("s3://", "/"))


# --- change objects


def _erase_object(erasure: Erasure, ref: ObjectRef, found: LandedFiles, only_count: bool, is_own: bool) -> None:
    lake = erasure.lake
    data = lake.objects.fetch(ref)
    found.read += 1
    settings = ReadSettings(erasure.key_names)
    rewritten = without_records(data, settings, lambda outcome: _is_of_keys(erasure, outcome, ref.uri))
    if rewritten is None:
        return
    if rewritten.data is None:
        found.damaged.append(ref.uri)
        return
    if only_count:
        _count(erasure, found, [ref.uri], rewritten.removed, is_own)
        return
    _rename_entries(erasure, ref, rewritten)
    new = _put(erasure, ref, rewritten.data)
    replace_versions(lake, erasure.session, {(ref.uri, ref.version): new})
    found.change += 1
    found.records += rewritten.removed


def _count(erasure: Erasure, found: LandedFiles, uris: Sequence[str], records: int, is_own: bool) -> None:
    """Count objects that are left as they are, with the number of records of the keys in them."""
    if is_own or erasure.request.others_landing:
        found.change += len(uris)
        found.records += records
    else:
        found.others += uris
        found.others_records += records


def _is_of_keys(erasure: Erasure, outcome: Outcome, uri: str) -> bool:
    if isinstance(outcome, Rejected):
        return erasure.names_key(outcome.raw) or erasure.has_text_of_key(outcome.raw)
    try:
        if erasure.lake.routes().table_of(outcome, uri, erasure.name) != erasure.name:
            return False
        return key_text(outcome.keys, erasure.key_names) in erasure.keys
    except UndecodableError:
        return False


def _put(erasure: Erasure, ref: ObjectRef, data: bytes) -> ObjectRef:
    folder, _, name = ref.uri.rpartition("/")
    Landing(erasure.lake.objects, folder).put(name, data)
    return next(new for new in erasure.lake.objects.list(ref.uri) if new.uri == ref.uri)


def _rename_entries(erasure: Erasure, ref: ObjectRef, rewritten: RewrittenObject) -> None:
    """Give entries of the quarantine the ids that the new object gives them. It is repeated without effect."""
    kept = iter(rewritten.after)
    renamed: dict[str, str] = {}
    following = next(kept, None)
    position = 0
    for ordinal, one in enumerate(rewritten.before):
        if following is None or (one.offset, one.outcome) != (following.offset, following.outcome):
            continue
        if isinstance(one.outcome, Rejected) and one.outcome.record_id is None and position != ordinal:
            renamed[_entry_id(ref.uri, one, ordinal)] = _entry_id(ref.uri, one, position)
        following = next(kept, None)
        position += 1
    table = erasure.lake.quarantine(erasure.name)
    if not renamed or table is None or table.current_snapshot() is None:
        return
    retry_commit(lambda: _commit_ids(erasure, renamed))


def _entry_id(uri: str, one: LocatedOutcome, ordinal: int) -> str:
    assert isinstance(one.outcome, Rejected), "records have no entry"
    return blake2b(f"{uri}\0{one.offset}\0{ordinal}\0".encode() + one.outcome.raw, digest_size=16).hexdigest()


def _commit_ids(erasure: Erasure, renamed: Mapping[str, str]) -> None:
    lake, session = erasure.lake, erasure.session
    table = lake.quarantine(erasure.name)
    assert table is not None, "the caller found it"
    session.con.register("renamed_entries", pa.table({"o": list(renamed), "n": list(renamed.values())}))
    rows = f"(SELECT * FROM {scan_table(table).sql(positions=True)} q JOIN renamed_entries e ON e.o = q.quarantine_id)"
    writer = FileWriter.for_table(session.con, table)
    added = writer.write(
        f"SELECT * EXCLUDE (_file_path, _pos, o, n) REPLACE (n AS quarantine_id) FROM {rows}", table.metadata
    )
    if added:
        deletes = writer.write_deletes(f"SELECT _file_path AS file_path, _pos AS pos FROM {rows}")
        lake.commit_delta(table, Delta(added=added, deletes=deletes))


# --- exports


def _exports(erasure: Erasure) -> dict[str, bool]:
    """The manifests of exports, and whether the lake wrote the export by a scan."""
    lake, settings = erasure.lake, erasure.lake.table(erasure.name)
    found: dict[str, bool] = {}
    state = current_state(lake.current(erasure.name))
    for export in state.exports if state is not None else ():
        if export.uri is not None and lake.objects.exists(export.uri):
            found[export.uri] = export.scan_until_us is not None
    if settings.export is not None:
        for ref in exports_of_place(lake, settings.export):
            if is_export_of(lake, settings, ref):
                found.setdefault(ref.uri, parse_summary(lake.objects.read(ref.uri)).scan_until_us is not None)
    for root in _incremental_roots(erasure):
        for ref in lake.objects.list(root) if lake.objects.reachable(root) else ():
            if ref.uri.endswith(f"/{SUMMARY}") and is_export_of(lake, settings, ref):
                found.setdefault(ref.uri, False)
    return found


def _incremental_roots(erasure: Erasure) -> set[str]:
    """The folders `AWSDynamoDB/` of loaded incremental exports: the ledger has the names of their data files."""
    ledger = read_ledger(erasure.lake, erasure.name)
    names = erasure.session.rows(f"SELECT DISTINCT object FROM {ledger.sql()} WHERE contains(object, '{_EXPORTS}')")
    return {f"{name.partition(_EXPORTS)[0]}{_EXPORTS}" for (name,) in names}


def _erase_export(erasure: Erasure, manifest: str, found: LandedFiles, only_count: bool, is_own: bool) -> None:
    lake = erasure.lake
    summary = parse_summary(lake.objects.read(manifest))
    if summary.output_format == ION:
        found.damaged.append(f"{manifest} (Amazon Ion)")
        return
    folder = manifest.rpartition("/")[0]
    entries = [json.loads(line) for line in lake.objects.read(join(folder, _FILES)).splitlines() if line.strip()]
    root = manifest.partition("AWSDynamoDB/")[0]
    changed: dict[str, bytes] = {}
    items = 0
    for entry in entries:
        uri = f"{root}AWSDynamoDB/{entry['dataFileS3Key'].partition('AWSDynamoDB/')[2]}"
        if not lake.objects.exists(uri):
            found.damaged.append(f"{uri} (not there)")
            continue
        data = lake.objects.read(uri)
        found.read += 1
        gzipped = data.startswith(_GZIP)
        content = gzip.decompress(data) if gzipped else data
        kept, removed, left = without_lines(content, lambda line: _is_line_of_keys(erasure, line))
        if removed:
            items += removed
            changed[uri] = gzip.compress(kept, mtime=0) if gzipped else kept
            entry |= {"itemCount": left, "md5Checksum": md5_text(changed[uri])}
    if not changed:
        return
    if only_count:
        _count(erasure, found, sorted(changed), items, is_own)
        return
    files = b"".join(json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" for entry in entries)
    document = json.loads(lake.objects.read(manifest))
    document["itemCount"] = sum(entry["itemCount"] for entry in entries)
    _put_manifest(erasure, folder, _FILES, files)
    _put_manifest(erasure, folder, SUMMARY, json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode())
    for uri, data in changed.items():
        place, _, name = uri.rpartition("/")
        ref = next(ref for ref in lake.objects.list(uri) if ref.uri == uri)
        old = md5_text(lake.objects.read(uri))
        Landing(lake.objects, place).put(name, data)
        new = ObjectRef(ref.uri, md5_text(data), len(data), 0)  # the ledger has the MD5 of a data file as its version
        replace_versions(lake, erasure.session, {(ref.uri, old): new})
        found.change += 1
    found.records += items


def _put_manifest(erasure: Erasure, folder: str, name: str, data: bytes) -> None:
    """Write a manifest, and its checksum if there is one: a reader compares it."""
    landing = Landing(erasure.lake.objects, folder)
    landing.put(name, data)
    for suffix in (".md5", ".checksum"):
        beside = name.removesuffix(".json") + suffix
        if erasure.lake.objects.exists(join(folder, beside)):
            landing.put(beside, md5_text(data).encode())


def _is_line_of_keys(erasure: Erasure, line: bytes) -> bool:
    value = loads(line)
    if isinstance(value, dict):
        for key in (value.get("Item"), value.get("Keys")):
            if isinstance(key, dict):
                try:
                    return key_text(key, erasure.key_names) in erasure.keys
                except UndecodableError:
                    break
    return erasure.names_key(line) or erasure.has_text_of_key(line)


# --- documents: reports of verifications, marks


def _document_places(erasure: Erasure) -> list[str]:
    landing = erasure.lake.landing
    return [f"{landing}/{REPORTS_FOLDER}/{erasure.name}", f"{landing}/{RESTORES_FOLDER}"]


def _erase_documents(erasure: Erasure, uri: str, found: LandedFiles, dry: bool) -> None:
    """Remove from JSON documents the elements of lists that name a key. A document that still names one is removed."""
    landing = Landing(erasure.lake.objects, uri)
    for name in landing.names():
        data, version = landing.load(name)
        found.read += 1
        if data is None or not (erasure.names_key(data) or erasure.has_text_of_key(data)):
            continue
        found.change += 1
        if dry:
            continue
        pruned = orjson.dumps(_pruned(erasure, loads(data)))
        if erasure.names_key(pruned) or loads(data) is None:
            landing.remove(name)
        else:
            landing.replace(name, pruned, version)


def _pruned(erasure: Erasure, value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _pruned(erasure, member) for name, member in value.items()}
    if isinstance(value, list):
        return [_pruned(erasure, element) for element in value if not erasure.names_key(orjson.dumps(element))]
    return value


def _report(erasure: Erasure, found: LandedFiles, dry: bool) -> None:
    if found.others and not (dry and erasure.request.others_landing):
        erasure.not_reached.append(
            f"{count_text(found.others_records, 'record')} in {count_text(len(found.others), 'object')} that an AWS service"
            f" or another tool wrote: {_listed(found.others)};"
            " repeat the command with --landing, or remove them"
        )
    if found.damaged:
        erasure.not_reached.append(
            f"{count_text(len(found.damaged), 'object')} from which the records cannot be removed: {_listed(found.damaged)};"
            " delete them after you made sure that nothing else is in them"
        )


def _listed(uris: Iterable[str]) -> str:
    first = sorted(uris)
    more = f" and {len(first) - _NOTED} more" if len(first) > _NOTED else ""
    return ", ".join(first[:_NOTED]) + more
