"""What to do about a check that is not green: told with its evaluation, for whoever is on call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from ddb_lake.config import TableSettings

TODO = "what to do"

_STEPS: Mapping[str, tuple[str, ...]] = {
    "up_to_date": (
        "Look at the runs of `current/{table}`: the last one that failed has the reason.",
        "Are the sensor (Automation) and the daemon (Deployment) running? A tick says what it could not look at.",
        "By hand: `ddb-lake sync {table}`. Nothing is applied twice.",
        "It stays red while runs succeed: more arrives than is applied. Raise `memory`, or run more workers.",
    ),
    "rows_match_source": (
        "DynamoDB refreshes its count about every six hours: a burst of writes or deletes explains a difference until then.",
        "`ddb-lake verify {table}` compares keys, which this check does not; `ddb-lake repair {table}` mends what it finds.",
        "A table that is rightly this far off needs a greater `checks.count_tolerance`.",
    ),
    "quarantine_empty": (
        "`ddb-lake quarantine list {table}` has the reasons, `quarantine show {table}` the bytes. No record is lost.",
        "Mend the cause (a key, a schema, the Firehose transformation), then `ddb-lake quarantine replay {table}`.",
        "Bytes that are no records of ours stay; the other tables and records are not kept waiting by them.",
    ),
    "no_gaps": (
        "In these stretches the stream was off or its records expired: what changed then may be missing.",
        "`ddb-lake repair {table} --gaps` exports exactly those stretches and applies them; point-in-time recovery must"
        " have been on. Beyond its 35 days: a new full export, `ddb-lake export {table}`.",
    ),
    "capture_alive": (
        "The description says what is off. `ddb-lake doctor` has the command that switches it on again.",
        "Changes from the time it was off are a gap: see the check `no_gaps`, and `ddb-lake repair {table} --gaps`.",
    ),
    "no_failed_deliveries": (
        "Records that Firehose could not deliver lie below its error prefix; with `changes.errors_uri` they are taken in.",
        "Mend the cause that the objects name: the transformation's error, a right to the bucket or to its key.",
        "`ddb-lake sync {table}` applies what is there now; `ddb-lake quarantine list {table}` has what cannot be read.",
    ),
    "sensor_ticks": (
        "Deployment, Daemons: is the sensor daemon running? Automation: is the lake's sensor on, and how did it tick last?",
        "Until it does, `ddb-lake sync` from a cron job keeps the tables up to date.",
    ),
    "sample_matches_source": (
        "`ddb-lake verify {table}` names the keys (here they are hashes), `ddb-lake repair {table}` mends exactly those.",
        "Differences of `records` mean that changes never landed: look for gaps. Those of `current` mean that the rows are"
        " not what the records give: please report that.",
        "`in doubt`: they may be changes under way. Verify again with `--settle 10m`.",
    ),
    "content": (
        "`ddb-lake repair {table}` mends exactly these keys, and tells if any is left; then evaluate this check again.",
        "Which items: the row is found by `SELECT … FROM {table} WHERE _key_hash = …`; `ddb-lake verify {table} --full"
        " --export URI` names the keys.",
        "Differences of `records` mean that changes never landed: look for gaps. Those of `current` mean that the rows are"
        " not what the records give: please report that.",
        "`in doubt`: they may be changes under way. Set `checks.full.settle`, or evaluate again.",
    ),
    "stream_complete": (
        "Is the sensor running? It asks for readings; `ddb-lake streams {table}` reads now. Records are kept for 24 hours.",
        "A gap is mended by `ddb-lake repair {table} --gaps`, or by a new export.",
    ),
    "rows_match_lake": (
        "Look at the last run of `aurora/{table}`: a refused statement or a lost connection stands there.",
        "`ddb-lake aurora {table}` brings it up to date now; with `--full` it goes over all rows.",
        "If rows were rejected, change the database's table, then `ddb-lake aurora {table} --replay`.",
    ),
    "content_matches_lake": (
        "`ddb-lake aurora {table} --full` makes the rows equal again; `--check all` compares all of them.",
        "If rows were rejected, change the database's table, then `ddb-lake aurora {table} --replay`.",
        "Does somebody else write to that table? What it writes is overwritten when the item changes.",
    ),
    "unique_keys": (
        "Nothing was committed: the table is as it was.",
        "Does `key` in the configuration say what the source's key is? `ddb-lake doctor` compares them.",
        "If it does, this is a fault of ours: please report it with the run's log.",
    ),
    "rows_match_manifest": (
        "Nothing was committed: the table is as it was.",
        "The export is damaged or incomplete where it lies: copy it again, or take a new one with `ddb-lake export {table}`.",
    ),
    "schema_unchanged": (
        "No data is lost: this tells downstream users that columns were added or widened.",
        "Expected: nothing to do, the next evaluation is green. Not wanted: `schema_evolution: rescue`, or give the"
        " attribute a type below `columns`.",
    ),
}
_TABLE = dg.TableSchema([dg.TableColumn("step", "int"), dg.TableColumn("do")])
_OTHERWISE = ("`ddb-lake status {table}` shows how the table is, `ddb-lake doctor` what is misconfigured.",)


def advised(check: str, table: TableSettings, passed: bool) -> dict[str, Any]:
    """The metadata to add to an evaluation: nothing to a green one."""
    if passed:
        return {}
    steps = [step.format(table=table.name) for step in _STEPS.get(check, _OTHERWISE)]
    rows = [dg.TableRecord({"step": number, "do": step}) for number, step in enumerate(steps, start=1)]
    return {TODO: dg.TableMetadataValue(rows, _TABLE)}  # the UI hides Markdown behind a click, and shows tables


def known_checks() -> set[str]:
    """The names of the checks that have steps of their own."""
    return set(_STEPS)
