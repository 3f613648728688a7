"""Verifies a table by counts, or by every key (`pipeline.verify.sample` compares a sample). Nothing is written.

A full comparison reads an export, or scans a small table. Each line of the source, and each line that `dump` would write, is
reduced to a hash (`engine.row_diff`). Only keys whose hashes differ are compared as items (`pipeline.verify.compare`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson

from ddb_lake.aws.items import CLOCK_SLACK_US, TableItems
from ddb_lake.aws.objects import ObjectRef
from ddb_lake.aws.source import require_source
from ddb_lake.config import TableSettings
from ddb_lake.core.decode.export_lines import ITEM_MEMBER
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.rate_limit import DEFAULT_READ_RATE, read_units
from ddb_lake.engine.inverse_projection import member_order
from ddb_lake.engine.key_text import key_hash_sql
from ddb_lake.engine.row_diff import (
    MOST_REORDERED,
    document_key_sql,
    dumped_fingerprint_sql,
    find_differing_keys,
    fingerprint_sql,
    register_functions,
    reordered_sql,
    text_hash_sql,
    write_hashes,
)
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literal
from ddb_lake.errors import ExportError, UsageError
from ddb_lake.pipeline.apply.erasures import count_erased
from ddb_lake.pipeline.load.export_files import (
    Export,
    LocalFile,
    download_files,
    lines_sql,
    open_export,
    protected_files,
)
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.replay import View
from ddb_lake.pipeline.read.verification_report import Cost, Outcome, Report, Strength
from ddb_lake.pipeline.table_identity import check_origin
from ddb_lake.pipeline.verify.compare import (
    Comparison,
    Findings,
    Reading,
    compare_until_certain,
    count_living,
    living_rows_sql,
    make_report,
    open_items,
    require_same_source,
    require_view,
    without_source,
)

EXPORT_USD_PER_GB = 0.10
"""Public list price of an export in us-east-1, full or incremental.

https://aws.amazon.com/dynamodb/pricing/
"""

SCAN_FILE_BYTES = 64 * 1024 * 1024


# --- what it costs


def expected_cost(table: TableSettings, strength: Strength, sample: int = 0, scan: bool = False) -> Cost:
    """The cost of a verification, estimated from the size that DescribeTable returns.

    DynamoDB updates that size about every six hours:
    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html

    Args:
        table: the table.
        strength: `counts` costs nothing.
        sample: the number of keys of a sample.
        scan: a full verification scans the source. By default it takes a new export.

    Raises:
        UsageError: the source cannot be reached.
    """
    if strength == "counts":
        return Cost()
    source = require_source(table, without_source(table.name))
    size, items = source.size_bytes or 0, source.items or 0
    if strength == "sample":
        return Cost(read_units=2 * read_units(size / max(items, 1), sample))
    if scan:
        return Cost(read_units=max(items, read_units(size)) if size == 0 else read_units(size))
    gigabytes = size / 1e9
    return Cost(export_gb=gigabytes, usd=gigabytes * EXPORT_USD_PER_GB)


# --- counts


def verify_counts(lake: Lake, name: str) -> Report:
    """Compare the number of living rows with the item count that DescribeTable returns.

    This is free. The count is up to about six hours old, so the outcome is `equal` or `in doubt`, never `different`.

    Raises:
        UsageError: the source cannot be reached, was created again, or nothing is in the lake yet.
    """
    started = time.monotonic()
    table = lake.table(name)
    seen = require_view(lake, name)
    rows = count_living(lake, seen)
    items = require_same_source(lake, name).items or 0
    erased = count_erased(lake, name)
    apart = max(0, abs(rows - items) - (erased if rows < items else 0)) / max(items, 1)
    outcome: Outcome = "equal" if apart <= table.checks.count_tolerance else "in doubt"
    note = f"{apart:.2%} apart, {table.checks.count_tolerance:.2%} allowed; DynamoDB counts about every six hours"
    if erased:
        note += f"; {count_text(erased, 'key')} may be in the source and {'is' if erased == 1 else 'are'} erased here"
    return Report(
        name,
        "counts",
        f"DescribeTable of {table.source_name}",
        outcome,
        watermark_us=seen.watermark_us,
        rows=rows,
        source_items=items,
        seconds=time.monotonic() - started,
        notes=(note,),
    )


# --- every key


def verify_export(lake: Lake, name: str, uri: str, settle_s: float = 0.0) -> Report:
    """Compare every key with a finished full export. This reads nothing of the source table.

    Args:
        lake: the open lake.
        name: the table.
        uri: the export, as for `pipeline.load.load.load_export`. It need not be loaded.
        settle_s: how long to wait for changes under way. What differs after that is certain; with 0 it may be in doubt.

    Raises:
        UsageError: the export is incremental or of another table, or nothing is in the lake yet.
        ExportError: the export is incomplete or damaged.
    """
    started = time.monotonic()
    export = open_export(lake.objects, uri)
    table = lake.table(name)
    check_export(lake, name, export)
    margin = table.clock_skew_us
    read_until_us = export.summary.scan_until_us or export.summary.as_of_us
    reading = Reading(export.summary.as_of_us - margin, read_until_us + margin)
    with lake.session() as session:
        originals = download_files(lake.objects, export, session.folder)
        files = protected_files(originals, lake.protection(name), session.folder)
        left_out = sum(file.items for file in originals) - sum(file.items for file in files)
        findings, compared = _compare(lake, session, name, files, reading, settle_s)
    if compared + left_out != export.summary.item_count:
        raise ExportError(
            "the number of items is not that of the manifest",
            uri=uri,
            expected=export.summary.item_count,
            found=compared + left_out,
            hint="copy it again",
        )
    comparison = Comparison(name, "full", f"export {export.summary.export_id}", reading, findings, compared)
    return make_report(lake, comparison, started)


def verify_scan(lake: Lake, name: str, *, read_rate: float | None = DEFAULT_READ_RATE, settle_s: float = 0.0) -> Report:
    """Compare every key with a strongly consistent scan of the source: for small tables.

    Args:
        lake: the open lake.
        name: the table.
        read_rate: read units a second at most; None for no limit.
        settle_s: how long to wait for changes under way. What differs after that is certain; with 0 it may be in doubt.

    Raises:
        UsageError: the source cannot be reached, was created again, or nothing is in the lake yet.
    """
    started = time.monotonic()
    require_same_source(lake, name)
    items = open_items(lake, name, read_rate)
    with lake.session() as session:
        from_us = items.served_us()
        files = scan_to_files(items, session.folder, lambda done: lake.progress(f"{name}: items scanned", done))
        reading = Reading(from_us, items.served_us() + 2 * CLOCK_SLACK_US)
        findings, compared = _compare(lake, session, name, files, reading, settle_s)
    read_units = items.consumed.units
    comparison = Comparison(name, "full", f"scan of {items.name}", reading, findings, compared, read_units)
    return make_report(lake, comparison, started)


def check_export(lake: Lake, name: str, export: Export) -> None:
    """Raise UsageError unless the export is a full one, of the table's source, and of the table of the lake's items."""
    table = lake.table(name)
    if export.summary.export_type != "FULL":
        raise UsageError(
            "an incremental export does not say what is absent", uri=export.uri, hint="compare with a full one"
        )
    if not lake.settings.is_source_of(table, export.summary.table_arn):
        raise UsageError(
            f"is of {export.summary.table_arn}, the source of {name} is {table.source_name} of {table.identity.text()}",
            uri=export.uri,
        )
    check_origin(lake, name, export.summary)


def scan_to_files(items: TableItems, folder: Path, progress: Callable[[int], None]) -> list[LocalFile]:
    """Scan a table into files of lines like those of a full export. `progress`: called with the number of items so far."""
    files: list[LocalFile] = []
    lines: list[bytes] = []
    size = count = 0

    def write() -> None:
        path = folder / f"scan-{len(files):06d}.json"
        path.write_bytes(b"".join(lines))
        files.append(LocalFile(str(path), path, len(lines), False, ObjectRef(str(path), "", size, 0)))

    for page in items.scan():
        lines += [b'{"Item":' + orjson.dumps(item) + b"}\n" for item in page]
        size += sum(map(len, lines[-len(page) :])) if page else 0
        count += len(page)
        progress(count)
        if size >= SCAN_FILE_BYTES:
            write()
            lines, size = [], 0
    write()
    return files


def _compare(
    lake: Lake, session: Session, name: str, files: Sequence[LocalFile], reading: Reading, settle_s: float
) -> tuple[Findings, int]:
    """Compare the lake with files of items. Returns the findings and the number of items in the files."""
    seen = require_view(lake, name)
    register_functions(session.con)
    rows, count = _differing_lines(lake, session, name, seen, files)
    if not rows:
        return Findings(), count
    session.con.execute(
        "CREATE OR REPLACE TABLE source_items AS SELECT s._key, s._key_hash,"
        f" json_extract(s.item, '/{ITEM_MEMBER}')::VARCHAR AS item FROM {rows} s"
    )
    session.con.execute("CREATE OR REPLACE TABLE compared_hashes AS SELECT _key_hash FROM differing_keys")
    return compare_until_certain(lake, session, name, reading, settle_s, seen), count


def _differing_lines(
    lake: Lake, session: Session, name: str, seen: View, files: Sequence[LocalFile]
) -> tuple[str | None, int]:
    """Make `differing_keys` (_key_hash) of the keys whose items may differ.

    Lines are compared by their text first, with the members of maps in the order of the lake's columns: fast, and equal
    texts are equal items. The others are compared by `equality.fingerprint`, which ignores the order of members.

    Returns:
        A relation (_key, _key_hash, item) of the lines with these keys, None if there are none; and the number of all lines.
    """
    schema = seen.state.schema
    left, right = session.folder / "lake.parquet", session.folder / "source.parquet"
    living = living_rows_sql(seen)
    order = member_order(schema)
    by_text = len(order) <= MOST_REORDERED
    lake.progress(f"{name}: rows of the lake hashed", 0)
    write_hashes(session, living, text_hash_sql(schema) if by_text else dumped_fingerprint_sql(schema), left)
    lake.progress(f"{name}: items of the source hashed", 0)
    if by_text:
        reordered = _with_hash(reordered_sql(schema.key, order, lines_sql(files)))
        write_hashes(session, reordered, "hash(reordered)", right, ["filename"])
    else:
        write_hashes(session, _keyed_lines(schema.key, files), fingerprint_sql("item"), right, ["filename"])
    source = f"read_parquet({literal(str(right))})"
    count, keyless = session.rows(f"SELECT count(*), count(*) FILTER (k IS NULL) FROM {source}")[0]
    if keyless:
        raise ExportError(
            f"{count_text(keyless, 'line')} of the source, of {count}, cannot be compared: there is no item with the key"
            f" {', '.join(schema.key)}",
            table=name,
            hint="export again",
        )
    if not find_differing_keys(session, left, right):
        return None, count
    holding = {
        path
        for (path,) in session.rows(f"SELECT DISTINCT filename FROM {source} SEMI JOIN differing_keys ON k = _key_hash")
    }
    chosen = "(SELECT r.* FROM {} r SEMI JOIN differing_keys d ON d._key_hash = r._key_hash)"
    differing = chosen.format(_keyed_lines(schema.key, [f for f in files if str(f.path) in holding]))
    if by_text:
        write_hashes(session, chosen.format(living), dumped_fingerprint_sql(schema), left)
        write_hashes(session, differing, fingerprint_sql("item"), right)
        if not find_differing_keys(session, left, right):
            return None, count
    return differing, count


def _keyed_lines(key: Sequence[str], files: Sequence[LocalFile]) -> str:
    """A relation (item, filename, _key, _key_hash) of the lines of files. `item`: the text of the line."""
    return _with_hash(f"(SELECT *, {document_key_sql(key)} AS _key FROM {lines_sql(files)})")


def _with_hash(keyed: str) -> str:
    return f"(SELECT *, {key_hash_sql()} AS _key_hash FROM {keyed})"
