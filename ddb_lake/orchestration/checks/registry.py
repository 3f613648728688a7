"""Every check of a lake: on which asset it is, what it compares, how severe a failure is, and what to do then.

The modules of this package evaluate the checks. Those without an `op` are evaluated by the op that writes the asset,
before it commits or from what it wrote (`orchestration.assets`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import dagster as dg

from ddb_lake.config import TableSettings
from ddb_lake.orchestration.checks import backlog, content, gaps, health, mysql, verification
from ddb_lake.orchestration.checks.evaluation import (
    WARN,
    Check,
    OpenLake,
    check_op,
    not_evaluated_database,
    not_evaluated_lake,
    not_evaluated_source,
)
from ddb_lake.orchestration.specs import Stage, TableAssets

HOURLY_OPS: Final = ("checks", "aurora_checks", "stream_checks", "trust_checks", "liveness_checks")
"""The ops that evaluate checks every hour. Each is an op of its own, so that a slow or absent system delays no other."""

ON_REQUEST_OP: Final = "content_checks"


def _has(stage: Stage) -> Callable[[TableAssets], bool]:
    """Whether a table has the asset of a stage."""
    return lambda assets: stage in assets.specs


def _where(rule: Callable[[TableSettings], bool]) -> Callable[[TableAssets], bool]:
    """Whether a table's settings fulfil a rule."""
    return lambda assets: rule(assets.table)


def _lands_on_s3(table: TableSettings) -> bool:
    return table.changes is not None and (table.changes.uri or "").startswith("s3://")


_NOTHING_COMMITTED = (
    "Nothing was committed: the table is as it was.",
    "Does `key` in the configuration say what the source's key is? `ddb-lake doctor` compares them.",
    "If it does, this is a fault of ours: please report it with the run's log.",
)
_REJECTED_ROWS = "If rows were rejected, change the database's table, then `ddb-lake aurora {table} --replay`."

UNIQUE_SNAPSHOT_KEYS: Final = Check(
    name="unique_keys",
    asset="snapshot",
    compares="Each item of the export has its key, and no key stands twice.",
    advice=_NOTHING_COMMITTED,
    applies=_has("snapshot"),
    blocking=True,
)
ROWS_MATCH_MANIFEST: Final = Check(
    name="rows_match_manifest",
    asset="snapshot",
    compares="Data files, digests and number of items are those of the export's manifest.",
    advice=(
        "Nothing was committed: the table is as it was.",
        "The export is damaged or incomplete where it lies: copy it again, or take a new one with `ddb-lake export {table}`.",
    ),
    applies=_has("snapshot"),
    blocking=True,
)
UNIQUE_KEYS: Final = Check(
    name="unique_keys",
    asset="current",
    compares="Each changed key has one winner. Evaluated before the commit: if not, nothing is committed.",
    advice=_NOTHING_COMMITTED,
    applies=_has("current"),
    blocking=True,
)
SCHEMA_UNCHANGED: Final = Check(
    name="schema_unchanged",
    asset="current",
    compares="No column was added or widened since the last materialization; shows the share of rows with rescued values.",
    advice=(
        "No data is lost: this informs downstream users that columns were added or widened.",
        "Expected: nothing to do, the next evaluation is green. Not wanted: `schema_evolution: rescue`, or give the"
        " attribute a type below `columns`.",
    ),
    applies=_has("current"),
    severity=WARN,
)
CONTENT: Final = Check(
    name="content",
    asset="current",
    op=ON_REQUEST_OP,
    compares="Every key of the lake and of the source, or of an export of it, is equal attribute by attribute. Runs on"
    " request, or on its own schedule.",
    advice=(
        "`ddb-lake repair {table}` repairs exactly these keys and reports those that still differ; then evaluate this check again.",
        "Which items: the row is found by `SELECT … FROM {table} WHERE _key_hash = …`; `ddb-lake verify {table} --full"
        " --export URI` names the keys.",
        "Differences of `records` mean that changes never landed: look for gaps. Those of `current` mean that the rows are"
        " not what the records give: please report that.",
        "`in doubt`: they may be changes under way. Set `checks.full.settle`, or evaluate again.",
    ),
    applies=_where(lambda table: table.checks.full is not None),
    evaluate=content.content_is_equal,
    on_error=not_evaluated_source,
)

CHECKS: Final[tuple[Check, ...]] = (
    ROWS_MATCH_MANIFEST,
    UNIQUE_SNAPSHOT_KEYS,
    UNIQUE_KEYS,
    SCHEMA_UNCHANGED,
    CONTENT,
    Check(
        name="up_to_date",
        asset="current",
        op="checks",
        compares="No object that landed longer ago than `max_lag` waits, and all of the changelog is in `current`.",
        advice=(
            "Look at the runs of `current/{table}`: the last one that failed has the reason.",
            "Are the sensor (Automation) and the daemon (Deployment) running? A tick says what it could not look at.",
            "By hand: `ddb-lake sync {table}`. Nothing is applied twice.",
            "It stays red while runs succeed: more arrives than is applied. Raise `memory`, or run more workers.",
        ),
        applies=_has("changes"),
        evaluate=backlog.up_to_date,
        on_error=not_evaluated_lake,
    ),
    Check(
        name="rows_match_source",
        asset="current",
        op="checks",
        compares="Living rows against DescribeTable's item count, which DynamoDB refreshes about every six hours.",
        advice=(
            "DynamoDB refreshes its count about every six hours: a burst of writes or deletes explains a difference until then.",
            "`ddb-lake verify {table}` compares keys, which this check does not; `ddb-lake repair {table}` repairs the differing keys.",
            "A table that is rightly this far off needs a greater `checks.count_tolerance`.",
        ),
        applies=_has("current"),
        evaluate=backlog.rows_match_source,
        severity=WARN,
        on_error=not_evaluated_lake,
    ),
    Check(
        name="quarantine_empty",
        asset="changes",
        op="checks",
        compares="Nothing landed that could not be read.",
        advice=(
            "`ddb-lake quarantine list {table}` has the reasons, `quarantine show {table}` the bytes. No record is lost.",
            "Correct the cause (a key, a schema, the Firehose transformation), then `ddb-lake quarantine replay {table}`.",
            "Bytes that are no records of ours stay; the other tables and records are not kept waiting by them.",
        ),
        applies=_has("changes"),
        evaluate=backlog.quarantine_empty,
        severity=WARN,
        on_error=not_evaluated_lake,
    ),
    Check(
        name="rows_match_lake",
        asset="aurora",
        op="aurora_checks",
        compares="The database has as many rows as the lake had at the state that was replicated last, and that state is"
        " no older than `max_lag`.",
        advice=(
            "Look at the last run of `aurora/{table}`: a refused statement or a lost connection stands there.",
            "`ddb-lake aurora {table}` brings it up to date now; with `--full` it goes over all rows.",
            _REJECTED_ROWS,
        ),
        applies=_has("aurora"),
        evaluate=mysql.rows_match_lake,
        on_error=not_evaluated_database,
    ),
    Check(
        name="content_matches_lake",
        asset="aurora",
        op="aurora_checks",
        compares="Rows and values of the database are the lake's, key by key, over a sample that changes from state to"
        " state (small tables: over all rows). Differences are named by the key's hash.",
        advice=(
            "`ddb-lake aurora {table} --full` makes the rows equal again; `--check all` compares all of them.",
            _REJECTED_ROWS,
            "Does another program write to that table? Its values are overwritten when the item changes.",
        ),
        applies=_has("aurora"),
        evaluate=mysql.content_matches_lake,
        on_error=not_evaluated_database,
    ),
    Check(
        name="stream_complete",
        asset="streams",
        op="stream_checks",
        compares="No record of the stream was missed, except in gaps that an export has repaired, and the stream is read.",
        advice=(
            "Is the sensor running? It asks for readings; `ddb-lake streams {table}` reads now. Records are kept for 24 hours.",
            "Repair a gap with `ddb-lake repair {table} --gaps`, or with a new export.",
        ),
        applies=_has("streams"),
        evaluate=gaps.stream_complete,
    ),
    Check(
        name="no_gaps",
        asset="current",
        op="trust_checks",
        compares="No change records are missing: the stream ran throughout, or an export repaired its gaps.",
        advice=(
            "In these stretches the stream was off or its records expired: what changed then may be missing.",
            "`ddb-lake repair {table} --gaps` exports exactly those stretches and applies them; point-in-time recovery must"
            " have been on. Beyond its 35 days: a new full export, `ddb-lake export {table}`.",
        ),
        applies=_where(lambda table: table.changes is not None and table.changes.uri is not None),
        evaluate=gaps.no_gaps,
        on_error=not_evaluated_source,
    ),
    Check(
        name="sample_matches_source",
        asset="current",
        op="trust_checks",
        compares="Keys of the lake and of the source, read with strong consistency, are equal attribute by attribute.",
        advice=(
            "`ddb-lake verify {table}` names the keys (here they are hashes), `ddb-lake repair {table}` repairs exactly those.",
            "Differences of `records` mean that changes never landed: look for gaps. Those of `current` mean that the rows are"
            " not what the records give: please report that.",
            "`in doubt`: they may be changes under way. Verify again with `--settle 10m`.",
        ),
        applies=_where(lambda table: bool(table.checks.sample)),
        evaluate=verification.sample_matches_source,
        on_error=not_evaluated_source,
    ),
    Check(
        name="sensor_ticks",
        asset="current",
        op="liveness_checks",
        compares="The sensor that plans all work ticks.",
        advice=(
            "Deployment, Daemons: is the sensor daemon running? Automation: is the lake's sensor on, and how did it tick last?",
            "Until it does, `ddb-lake sync` from a cron job keeps the tables up to date.",
        ),
        applies=_where(lambda table: table.changes is not None),
        evaluate=health.sensor_ticks,
        on_error=health.not_evaluated_health,
    ),
    Check(
        name="capture_alive",
        asset="current",
        op="liveness_checks",
        compares="The source is the same table as ever, feeds the same stream, and neither Kinesis nor Firehose holds back.",
        advice=(
            "The description says what is off. `ddb-lake doctor` has the command that switches it on again.",
            "Changes from the time it was off are a gap: see the check `no_gaps`, and `ddb-lake repair {table} --gaps`.",
        ),
        applies=_where(_lands_on_s3),
        evaluate=health.capture_alive,
        on_error=health.not_evaluated_health,
    ),
    Check(
        name="no_failed_deliveries",
        asset="current",
        op="liveness_checks",
        compares="Firehose put nothing below its error prefix in the last 24 hours.",
        advice=(
            "Records that Firehose could not deliver lie below its error prefix; with `changes.errors_uri` they are ingested.",
            "Correct the cause that the objects name: the transformation's error, a right to the bucket or to its key.",
            "`ddb-lake sync {table}` applies what is there now; `ddb-lake quarantine list {table}` has what cannot be read.",
        ),
        applies=_where(lambda table: table.changes is not None and table.changes.errors_uri is not None),
        evaluate=health.no_failed_deliveries,
        severity=WARN,
        on_error=health.not_evaluated_health,
    ),
    Check(
        name="canary_arrives",
        asset="current",
        op="liveness_checks",
        compares="An item that is written to the source arrives in current within `max_lag`.",
        advice=("`ddb-lake status {table}` shows how the table is, `ddb-lake doctor` what is misconfigured.",),
        applies=_where(lambda table: table.checks.canary is not None),
        evaluate=health.canary_arrives,
        on_error=health.not_evaluated_health,
    ),
)


def checks_of(assets: TableAssets, asset: Stage) -> list[Check]:
    """The checks of a table's asset that the op which writes it evaluates."""
    return [check for check in CHECKS if check.asset == asset and not check.op and check.applies(assets)]


def check_definitions(
    lake: str, ops: Sequence[str], tables: Mapping[str, TableAssets], open_lake: OpenLake
) -> list[dg.AssetChecksDefinition]:
    """The ops of a lake that evaluate checks; one without any check is left out."""
    made = [check_op(lake, [check for check in CHECKS if check.op == op], tables, open_lake) for op in ops]
    return [definition for definition in made if definition is not None]
