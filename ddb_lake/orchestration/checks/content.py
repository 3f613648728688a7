"""The check `content` on `current/<table>`: every key of the lake against the source. Only where `checks.full` asks for it.

It takes long and may cost money, so that it is no part of the hourly checks: it runs when somebody asks for it, or by a
schedule of its own.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from ddb_lake.aws.exports import start_export, wait_for_export
from ddb_lake.config import FullCheckSettings, TableSettings, seconds
from ddb_lake.errors import UsageError
from ddb_lake.orchestration.checks.evaluation import OpenLake, check_op, judged
from ddb_lake.orchestration.checks.verification import differing_keys
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.sync import newest_export
from ddb_lake.pipeline.verify.full import verify_export, verify_scan
from ddb_lake.pipeline.verify.report import Report, keep_report

CONTENT = "content"

_DESCRIPTION = (
    "Every key of the lake and of the source, or of an export of it, is equal attribute by attribute. Runs when it is"
    " asked for, or by its own schedule."
)
_MEANING = {
    "missing": "the source has the item, the lake has not",
    "extra": "the lake has an item that the source has not",
    "stale": "the lake has an older image",
    "wrong": "the lake has an image that nothing ever said",
    "doubled": "the lake has several rows of one key",
}
_KIND_SCHEMA = dg.TableSchema([dg.TableColumn("difference"), dg.TableColumn("keys", "int"), dg.TableColumn("meaning")])


def content_checks(lake: str, tables: Mapping[str, TableAssets], open_lake: OpenLake) -> list[dg.AssetChecksDefinition]:
    """The checks of all tables that ask for one, in an op of their own."""
    return check_op(f"{lake}_content_checks", tables, open_lake, _check_specs, _evaluate)


def _check_specs(assets: TableAssets) -> list[dg.AssetCheckSpec]:
    if assets.table.checks.full is None:
        return []
    return [dg.AssetCheckSpec(CONTENT, asset=assets.key("current"), description=_DESCRIPTION)]


def _evaluate(
    _context: dg.AssetCheckExecutionContext, lake: Lake, table: TableSettings, spec: dg.AssetCheckSpec
) -> dg.AssetCheckResult:
    """Compare every key. What keeps it from being compared fails the check: nothing is known to be equal then."""

    def judge() -> tuple[bool, str, dict[str, Any], bool]:
        report = _compared(lake, table)
        return *content_is_equal(report), report.outcome == "in doubt"

    return judged(spec, table, judge)


def _compared(lake: Lake, table: TableSettings) -> Report:
    wanted = table.checks.full or FullCheckSettings()
    settle_s = seconds(wanted.settle)
    if wanted.against == "scan":
        report = verify_scan(lake, table.name, read_rate=table.checks.read_rate, settle_s=settle_s)
    else:
        report = verify_export(lake, table.name, _export(lake, table, wanted), settle_s)
    keep_report(lake, report)
    return report


def _export(lake: Lake, table: TableSettings, wanted: FullCheckSettings) -> str:
    if wanted.against == "new_export":
        told = f"{table.name}: seconds waited for DynamoDB"
        return wait_for_export(table, start_export(table), lambda waited: lake.progress(told, waited)).manifest_uri
    found = newest_export(lake, table)
    if found is None:
        place = table.export.bucket if table.export is not None else "nowhere"
        raise UsageError(
            f"no finished full export of {table.source_name} in {place}: take one (`ddb-lake export {table.name}`), or set"
            " `checks.full.against` to new_export or scan"
        )
    return found


def content_is_equal(report: Report) -> tuple[bool, str, dict[str, Any]]:
    """Whether every key is equal; else how many differ and how, and the first of them by the key's hash."""
    figures: dict[str, Any] = {
        "compared with": report.source,
        "keys compared": report.compared,
        "differences": report.total,
        "in doubt": report.doubtful,
        "changed meanwhile": report.explained,
        "read units": report.cost.read_units,
        "seconds": round(report.seconds, 3),
    }
    if report.outcome == "equal":
        return True, f"All {report.compared} keys of {report.source} are equal.", figures
    kinds = [
        dg.TableRecord({"difference": kind, "keys": count, "meaning": _MEANING[kind]})
        for kind, count in sorted(report.kinds.items(), key=lambda kind: -kind[1])
    ]
    figures |= {"kinds": dg.TableMetadataValue(kinds, _KIND_SCHEMA), "first keys at fault": differing_keys(report)}
    counted = ", ".join(f"{record.data['keys']} {record.data['difference']}" for record in kinds)
    said = f"{report.total} keys differ from {report.source}: {counted}."
    said += f" {report.doubtful} of them may be changing." if report.doubtful else ""
    return False, f"{said} `ddb-lake repair {report.table}` mends them.", figures
