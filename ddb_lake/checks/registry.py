"""Every check of a lake: on which asset it is, what it compares, how severe a failure is, and what to do then.

The modules of this package evaluate the checks. Those without an `op` are evaluated by the step that writes the asset,
before it commits or from what it wrote.
"""

from __future__ import annotations

from typing import Final

from ddb_lake.checks import backlog, conservation, content, continuity, entities, gaps, health, mysql, verification
from ddb_lake.checks.check import Check, has_stage, reads_aws
from ddb_lake.config import TableSettings, seconds
from ddb_lake.pipeline.plan.stages import Stage

HOURLY_OPS: Final = ("checks", "aurora_checks", "stream_checks", "trust_checks", "liveness_checks")
"""The ops that evaluate checks every hour. Each is an op of its own, so that a slow or absent system delays no other."""

ON_REQUEST_OP: Final = "content_checks"


def _lands_on_s3(table: TableSettings) -> bool:
    return table.changes is not None and (table.changes.uri or "").startswith("s3://")


def _has_images(table: TableSettings) -> bool:
    """Whether change records arrive, and not only lines of incremental exports."""
    arrive = table.changes is not None and (table.changes.uri is not None or table.changes.reads_stream)
    return arrive and seconds(table.checks.continuity) > 0


_NOTHING_COMMITTED = (
    "Nothing was committed: the table is as it was.",
    "Does `key` in the configuration say what the source's key is? `ddb-lake doctor` compares them.",
    "If it does, this is a fault of ours: please report it with the run's log.",
)
_REJECTED_ROWS = "If rows were rejected, change the database's table, then `ddb-lake aurora {table} --replay`."

UNIQUE_SNAPSHOT_KEYS: Final = Check(
    name="unique_keys",
    asset="snapshot",
    question="whether the items of the export have distinct keys",
    compares="Each item of the export has its key, and no key stands twice.",
    advice=_NOTHING_COMMITTED,
    applies=has_stage("snapshot"),
    blocking=True,
)
ROWS_MATCH_MANIFEST: Final = Check(
    name="rows_match_manifest",
    asset="snapshot",
    question="whether the loaded rows are those that the export's manifest names",
    compares="Data files, digests and number of items are those of the export's manifest.",
    advice=(
        "Nothing was committed: the table is as it was.",
        "The export is damaged or incomplete where it lies: copy it again, or take a new one with `ddb-lake export {table}`.",
    ),
    applies=has_stage("snapshot"),
    blocking=True,
)
UNIQUE_KEYS: Final = Check(
    name="unique_keys",
    asset="current",
    question="whether each changed key has one winner",
    compares="Each changed key has one winner. Evaluated before the commit: if not, nothing is committed.",
    advice=_NOTHING_COMMITTED,
    applies=has_stage("current"),
    blocking=True,
)
SCHEMA_UNCHANGED: Final = Check(
    name="schema_unchanged",
    asset="current",
    question="whether the columns changed",
    compares="No column was added or widened since the last materialization; shows the share of rows with rescued values.",
    advice=(
        "No data is lost: this informs downstream users that columns were added or widened.",
        "Expected: nothing to do, the next evaluation is green. Not wanted: `schema_evolution: rescue`, or give the"
        " attribute a type below `columns`.",
    ),
    applies=has_stage("current"),
    severity="warning",
)
CONTENT: Final = Check(
    name="content",
    asset="current",
    question="whether every key equals the source",
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
    applies=lambda table: table.checks.full is not None,
    evaluate=content.content_is_equal,
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
        question="whether all objects that landed are applied",
        op="checks",
        compares="No object that landed longer ago than `max_lag` waits, and all of the changelog is in `current`.",
        advice=(
            "Look at the runs of `current/{table}`: the last one that failed has the reason.",
            "Are the sensor (Automation) and the daemon (Deployment) running? A tick says what it could not look at.",
            "By hand: `ddb-lake sync {table}`. Nothing is applied twice.",
            "It stays red while runs succeed: more arrives than is applied. Raise `memory`, or run more workers.",
        ),
        applies=has_stage("changes"),
        evaluate=backlog.up_to_date,
    ),
    Check(
        name="entities_complete",
        asset="current",
        question="whether the entities have the items of the table",
        op="checks",
        compares="Each item of the table is in the entity that its key states, in the same version, and in no other entity.",
        advice=(
            "Behind, or after a killed run: `ddb-lake sync {table}` brings the entities up to date.",
            "Items in no entity: add a pattern, or `- {{name: rest}}` as the last entity. They are all in the table itself.",
            "A part of the key that has not its declared type is NULL; the key's own column has its text. Change the part's type"
            " below `columns` of the entity to `string`.",
            "Missing or extra rows are a fault of ours: `ddb-lake rebuild {table}` writes all of them again; please report it.",
        ),
        applies=lambda table: bool(table.entities),
        evaluate=entities.entities_complete,
    ),
    Check(
        name="rows_match_source",
        asset="current",
        question="whether the lake has as many rows as the source has items",
        op="checks",
        compares="Living rows against DescribeTable's item count, which DynamoDB refreshes about every six hours.",
        advice=(
            "DynamoDB refreshes its count about every six hours: a burst of writes or deletes explains a difference until then.",
            "`ddb-lake verify {table}` compares keys, which this check does not; `ddb-lake repair {table}` repairs the differing keys.",
            "A table that is rightly this far off needs a greater `checks.count_tolerance`.",
        ),
        applies=lambda table: reads_aws(table) and table.filter is None,
        evaluate=backlog.rows_match_source,
        severity="warning",
    ),
    Check(
        name="quarantine_empty",
        asset="changes",
        question="whether everything that landed could be read",
        op="checks",
        compares="Nothing landed that could not be read.",
        advice=(
            "`ddb-lake quarantine list {table}` has the reasons, `quarantine show {table}` the bytes. No record is lost.",
            "Correct the cause (a key, a schema, the Firehose transformation), then `ddb-lake quarantine replay {table}`.",
            "Bytes that are no records of ours stay; the other tables and records are not kept waiting by them.",
        ),
        applies=has_stage("changes"),
        evaluate=backlog.quarantine_empty,
        severity="warning",
    ),
    Check(
        name="continuity",
        asset="changes",
        question=continuity.CONTINUITY_QUESTION,
        op="checks",
        compares="The old image of each change record is the state before it: that of the record before, or of the newest"
        " full export. Reads the lake alone. Differences are named by the key's hash.",
        advice=(
            "A change between the two times of each key never reached the lake, so other keys that changed then may be wrong too.",
            "`ddb-lake repair {table} --gaps` exports the time from the source and applies it; the check is then green.",
            "`ddb-lake verify {table} --continuity` names the keys. Look for deleted objects, and for expiry rules of the bucket.",
        ),
        applies=_has_images,
        evaluate=continuity.continuity,
    ),
    Check(
        name="rows_match_lake",
        asset="aurora",
        question="whether the database has as many rows as the lake",
        op="aurora_checks",
        compares="The database has as many rows as the lake had at the state that was replicated last, and that state is"
        " no older than `max_lag`.",
        advice=(
            "Look at the last run of `aurora/{table}`: a refused statement or a lost connection stands there.",
            "`ddb-lake aurora {table}` brings it up to date now; with `--full` it goes over all rows.",
            _REJECTED_ROWS,
        ),
        applies=has_stage("aurora"),
        evaluate=mysql.rows_match_lake,
    ),
    Check(
        name="content_matches_lake",
        asset="aurora",
        question="whether rows of the database equal the lake's",
        op="aurora_checks",
        compares="Rows and values of the database are the lake's, key by key, over a sample that changes from state to"
        " state (small tables: over all rows). Differences are named by the key's hash.",
        advice=(
            "`ddb-lake aurora {table} --full` makes the rows equal again; `--check all` compares all of them.",
            _REJECTED_ROWS,
            "Does another program write to that table? Its values are overwritten when the item changes.",
        ),
        applies=has_stage("aurora"),
        evaluate=mysql.content_matches_lake,
    ),
    Check(
        name="stream_complete",
        asset="streams",
        question="whether every record of the stream landed",
        op="stream_checks",
        compares="No record of the stream was missed, except in gaps that an export has repaired, and the stream is read.",
        advice=(
            "Is the sensor running? It asks for readings; `ddb-lake streams {table}` reads now. Records are kept for 24 hours.",
            "Repair a gap with `ddb-lake repair {table} --gaps`, or with a new export.",
        ),
        applies=has_stage("streams"),
        evaluate=gaps.stream_complete,
    ),
    Check(
        name="no_gaps",
        asset="current",
        question="whether change records are missing",
        op="trust_checks",
        compares="No change records are missing: the stream ran throughout, or an export repaired its gaps.",
        advice=(
            "In these stretches the stream was off or its records expired: what changed then may be missing.",
            "`ddb-lake repair {table} --gaps` exports exactly those stretches and applies them; point-in-time recovery must"
            " have been on. Beyond its 35 days: a new full export, `ddb-lake export {table}`.",
        ),
        applies=lambda table: table.changes is not None and table.changes.uri is not None,
        evaluate=gaps.no_gaps,
    ),
    Check(
        name="conservation",
        asset="current",
        question="whether the records that Kinesis accepted and Firehose delivered are in the lake",
        op="trust_checks",
        compares="The records that Kinesis accepted and Firehose delivered, by CloudWatch, are in the objects that the ledger"
        " names: as new records, duplicates, rejected ones, or other tables'. Reads no items.",
        advice=(
            "The description states how many records are missing, from when to when, and whether Firehose delivered them.",
            "`ddb-lake repair {table} --gaps` exports that time from the source and applies it; then evaluate this check again.",
            "What removed the objects? Look for a lifecycle rule of the bucket that is shorter than the time in which objects"
            " are applied, and for deletions in CloudTrail.",
            "Records that Firehose's function dropped or failed are missing too: set `changes.errors_uri`.",
        ),
        applies=_lands_on_s3,
        evaluate=conservation.conservation,
    ),
    Check(
        name="objects_intact",
        asset="current",
        question="whether objects were removed before they were applied",
        op="trust_checks",
        compares="Each object that a listing or a notification showed before it was applied is in the ledger or still there.",
        advice=(
            "`ddb-lake repair {table} --gaps` exports the time of the lost objects from the source and applies it.",
            "A bucket that keeps versions still has them: remove the delete marker, and `ddb-lake sync {table}`.",
            "What removed them? Look for a lifecycle rule that is shorter than the time in which objects are applied.",
        ),
        applies=lambda table: table.changes is not None,
        evaluate=conservation.objects_intact,
    ),
    Check(
        name="sample_matches_source",
        asset="current",
        question="whether a sample of the keys equals the source",
        op="trust_checks",
        compares="Once a day, keys of the lake and of the source are compared attribute by attribute (`checks.sample`, eventually"
        " consistent reads). Keys that differ are read again every hour, with strong consistency.",
        advice=(
            "`ddb-lake verify {table}` names the keys (here they are hashes), `ddb-lake repair {table}` repairs exactly those.",
            "Differences of `records` mean that changes never landed: look for gaps. Those of `current` mean that the rows are"
            " not what the records give: please report that.",
            "`in doubt`: they may be changes under way, and are judged again every hour; `ddb-lake verify {table} --settle 10m`"
            " waits for them.",
        ),
        applies=lambda table: table.checks.sample > 0 and reads_aws(table),
        evaluate=verification.sample_matches_source,
    ),
    Check(
        name="sensor_ticks",
        asset="current",
        question="whether the sensor that plans the work ticks",
        op="liveness_checks",
        compares="The sensor that plans all work ticks.",
        advice=(
            "Deployment, Daemons: is the sensor daemon running? Automation: is the lake's sensor on, and how did it tick last?",
            "Until it does, `ddb-lake sync` from a cron job keeps the tables up to date.",
        ),
        applies=lambda table: table.changes is not None,
        evaluate=health.sensor_ticks,
        reads_dagster=True,
    ),
    Check(
        name="capture_alive",
        asset="current",
        question="whether changes are captured and delivered",
        op="liveness_checks",
        compares="The source is the same table as ever, feeds the same stream, and neither Kinesis nor Firehose holds back.",
        advice=(
            "The description says what is off. `ddb-lake doctor` has the command that switches it on again.",
            "Changes from the time it was off are a gap: see the check `no_gaps`, and `ddb-lake repair {table} --gaps`.",
        ),
        applies=_lands_on_s3,
        evaluate=health.capture_alive,
    ),
    Check(
        name="fresh_as_source",
        asset="current",
        question="whether the lake has changes as new as those of the source",
        op="liveness_checks",
        compares="The newest change in the lake is as new as the newest records, older than `max_lag`, that the source's stream"
        " accepted: CloudWatch's `IncomingRecords` of the Kinesis stream, or of Firehose's `changes.delivery_stream`.",
        advice=(
            "A warning: the stream may have records of other tables. `ddb-lake verify {table}` compares keys.",
            "Look at the checks `up_to_date`, `capture_alive` and `no_gaps`: they state where changes wait.",
            "Changes that come neither through Kinesis nor through Firehose: set `changes.delivery_stream` if there is one.",
        ),
        applies=_lands_on_s3,
        evaluate=health.fresh_as_source,
        severity="warning",
    ),
    Check(
        name="no_failed_deliveries",
        asset="current",
        question="whether Firehose failed to deliver records",
        op="liveness_checks",
        compares="Firehose put nothing below its error prefix in the last 24 hours.",
        advice=(
            "Records that Firehose could not deliver lie below its error prefix; with `changes.errors_uri` they are ingested.",
            "Correct the cause that the objects name: the transformation's error, a right to the bucket or to its key.",
            "`ddb-lake sync {table}` applies what is there now; `ddb-lake quarantine list {table}` has what cannot be read.",
        ),
        applies=lambda table: table.changes is not None and table.changes.errors_uri is not None,
        evaluate=health.no_failed_deliveries,
        severity="warning",
    ),
    Check(
        name="canary_arrives",
        asset="current",
        question="whether an item that is written to the source arrives in the lake",
        op="liveness_checks",
        compares="An item that is written to the source arrives in current within `max_lag`.",
        advice=("`ddb-lake status {table}` shows how the table is, `ddb-lake doctor` what is misconfigured.",),
        applies=lambda table: table.checks.canary is not None,
        evaluate=health.canary_arrives,
    ),
)


def checks_of(table: TableSettings) -> list[Check]:
    """All checks of a table."""
    return [check for check in CHECKS if check.applies(table)]


def checks_of_writer(table: TableSettings, asset: Stage) -> list[Check]:
    """The checks of a table's asset that the step which writes it evaluates."""
    return [check for check in checks_of(table) if check.asset == asset and not check.op]
