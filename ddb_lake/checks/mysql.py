"""Whether a table in a MySQL-compatible database equals the lake's: the number of rows, and the values of a sample."""

from ddb_lake.checks.check import Subject
from ddb_lake.config import seconds
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.verify.outcome import Outcome, judged, unknown
from ddb_lake.mysql.comparison import ComparisonResult, compare

SHOWN = 5


def rows_match_lake(subject: Subject) -> Outcome:
    """The database has as many rows as the replicated state of the lake, which is no older than `max_lag`."""
    table = subject.table
    found = compare(subject.lake, table.name, sample=0)
    same_rows = found.lake_rows == found.target_rows and not found.rejected
    passed = same_rows and found.lag_s <= seconds(table.checks.max_lag)
    text = f"{count_text(found.target_rows, 'row')} in {found.target.replace('`', '')}, {found.lake_rows} in the lake's state that it has."
    if found.rejected:
        text += f" {_rejected_text(found)}"
    if found.lag_s:
        text += f" The lake has had more for {found.lag_s:.0f} s; max_lag is {table.checks.max_lag}."
    figures = {"rows": found.target_rows, "lake rows": found.lake_rows, "rejected": found.rejected}
    return judged(passed, text, figures | {"lag seconds": round(found.lag_s, 3)})


def content_matches_lake(subject: Subject) -> Outcome:
    """The rows of a sample are equal, key by key."""
    found = compare(subject.lake, subject.table.name)
    wrong = found.missing + found.extra + found.different + found.rejected
    figures = {
        "compared": found.compared,
        "missing": found.missing,
        "extra": found.extra,
        "different": found.different,
        "rejected": found.rejected,
    }
    if not found.compared and not wrong:
        return unknown("the lake's state that the database has is empty: no key was compared", figures)
    return judged(not wrong, content_text(found), figures)


def content_text(found: ComparisonResult) -> str:
    """A comparison in words, without values."""
    if not (found.missing or found.extra or found.different):
        equal = f"{count_text(found.compared, 'key')} compared, all equal."
        return f"{equal} {_rejected_text(found)}" if found.rejected else equal
    examples = "; ".join(f"{key[:16]}…: {what}" for key, what in found.examples[:SHOWN])
    action = _rejected_text(found) if found.rejected else f"`ddb-lake aurora {found.table} --full` makes them equal."
    return (
        f"{count_text(found.compared, 'key')} compared: {found.missing} not in the database, {found.extra} not in the lake,"
        f" {found.different} with other values ({examples}). {action}"
    )


def _rejected_text(found: ComparisonResult) -> str:
    target = found.target.replace("`", "")
    return (
        f"{target} rejected {count_text(found.rejected, 'row')} of the lake: {target}_rejected has the reasons. Change the table, then"
        f" `ddb-lake aurora {found.table} --replay`."
    )
