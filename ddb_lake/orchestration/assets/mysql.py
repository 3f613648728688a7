"""`aurora/<table>`: the current items in a MySQL-compatible database, and the checks that compare the two."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from ddb_lake.config import TableSettings, seconds
from ddb_lake.errors import TransientError
from ddb_lake.mysql.comparison import ComparisonResult, compare
from ddb_lake.mysql.replication import ReplicateResult, rejected_text, replicate
from ddb_lake.orchestration.checks.advice import advised
from ddb_lake.orchestration.checks.evaluation import OpenLake, check_op
from ddb_lake.orchestration.failures import said_of
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.open_lake import Lake

ROWS_MATCH = "rows_match_lake"
CONTENT_MATCHES = "content_matches_lake"

DESCRIPTIONS = {
    ROWS_MATCH: "The database has as many rows as the lake had at the state that was replicated last, and that state is"
    " no older than `max_lag`.",
    CONTENT_MATCHES: "Rows and values of the database are the lake's, key by key, over a sample that changes from state to"
    " state (small tables: over all rows). Differences are named by the key's hash.",
}


def aurora_checks(lake: str, tables: Mapping[str, TableAssets], open_lake: OpenLake) -> list[dg.AssetChecksDefinition]:
    """The checks of all replicated tables, in an op of their own: a database that is away keeps no other check waiting."""
    replicated = {name: assets for name, assets in tables.items() if "aurora" in assets.specs}
    return check_op(f"{lake}_aurora_checks", replicated, open_lake, _check_specs, _evaluate)


def _check_specs(assets: TableAssets) -> list[dg.AssetCheckSpec]:
    key = assets.key("aurora")
    return [dg.AssetCheckSpec(name, asset=key, description=said) for name, said in DESCRIPTIONS.items()]


def _evaluate(
    _context: dg.AssetCheckExecutionContext, lake: Lake, table: TableSettings, spec: dg.AssetCheckSpec
) -> dg.AssetCheckResult:
    """Evaluate one check. What keeps it from being evaluated fails it alone, not those of other tables."""
    severity = dg.AssetCheckSeverity.ERROR
    try:
        passed, said, figures = (rows_match if spec.name == ROWS_MATCH else content_matches)(lake, table)
    except Exception as error:  # whatever it is, it is this table's
        passed, said, figures = False, f"Not evaluated: {said_of(error)}", {}
        if isinstance(error, TransientError):  # nothing is known to be wrong, and nothing to be right
            severity = dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=passed,
        severity=severity,
        description=said,
        metadata=figures | advised(spec.name, table, passed),
    )


class ReplicateConfig(dg.Config):
    """How to replicate. `full`: compare all rows, even if only some have changed. `replay`: try rejected rows again."""

    full: bool = False
    replay: bool = False


def replicate_table(
    context: dg.AssetExecutionContext, lake: Lake, assets: TableAssets, config: ReplicateConfig
) -> Iterator[dg.MaterializeResult[None]]:
    """Bring the database up to date."""
    result = replicate(lake, assets.table.name, full=config.full, replay=config.replay)
    context.log.info(f"{result.table}: {result.scope}, because {result.reason}")
    if said := rejected_text(result):
        context.log.error(said)
    yield dg.MaterializeResult(asset_key=assets.key("aurora"), metadata=_metadata(result))


def _metadata(result: ReplicateResult) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "dagster/row_count": result.rows,
        "dagster/table_name": result.target.replace("`", ""),
        "scope": result.scope,
        "reason": result.reason,
        "upserted": result.upserted,
        "removed": result.removed,
        "rejected": result.rejected,
        "snapshot": str(result.snapshot_id),  # as a number it would lose digits in the browser
        "seconds": round(result.seconds, 3),
    }
    if result.columns_added:
        metadata["columns added"] = ", ".join(result.columns_added)
    return metadata


def rows_match(lake: Lake, table: TableSettings) -> tuple[bool, str, dict[str, Any]]:
    """Whether the database has as many rows as the lake, and nothing has waited for longer than `max_lag`."""
    found = compare(lake, table.name, sample=0)
    same_rows = found.lake_rows == found.target_rows and not found.rejected
    passed = same_rows and found.lag_s <= seconds(table.checks.max_lag)
    said = f"{found.target_rows} rows in {found.target.replace('`', '')}, {found.lake_rows} in the lake's state that it has."
    if found.rejected:
        said += f" {_rejected_text(found)}"
    if found.lag_s:
        said += f" The lake has had more for {found.lag_s:.0f} s; max_lag is {table.checks.max_lag}."
    figures = {"rows": found.target_rows, "lake rows": found.lake_rows, "rejected": found.rejected}
    return passed, said, figures | {"lag seconds": round(found.lag_s, 3)}


def content_matches(lake: Lake, table: TableSettings) -> tuple[bool, str, dict[str, Any]]:
    """Whether the rows of a sample are equal."""
    found = compare(lake, table.name)
    wrong = found.missing + found.extra + found.different + found.rejected
    figures = {
        "compared": found.compared,
        "missing": found.missing,
        "extra": found.extra,
        "different": found.different,
        "rejected": found.rejected,
    }
    return not wrong, content_text(found), figures


def content_text(found: ComparisonResult) -> str:
    """A comparison in words, without values."""
    if not (found.missing or found.extra or found.different):
        equal = f"{found.compared} keys compared, all equal."
        return f"{equal} {_rejected_text(found)}" if found.rejected else equal
    examples = "; ".join(f"{key[:16]}…: {what}" for key, what in found.examples[:5])
    action = _rejected_text(found) if found.rejected else f"`ddb-lake aurora {found.table} --full` makes them equal."
    return (
        f"{found.compared} keys compared: {found.missing} not in the database, {found.extra} not in the lake,"
        f" {found.different} with other values ({examples}). {action}"
    )


def _rejected_text(found: ComparisonResult) -> str:
    target = found.target.replace("`", "")
    return (
        f"{target} rejected {found.rejected} rows of the lake: {target}_rejected has the reasons. Change the table, then"
        f" `ddb-lake aurora {found.table} --replay`."
    )
