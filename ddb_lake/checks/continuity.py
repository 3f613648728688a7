"""Whether the old image of each change record is the state before it, and what the evaluation states as evidence."""

from __future__ import annotations

from ddb_lake.checks.check import Subject
from ddb_lake.config import seconds
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import time_text
from ddb_lake.core.verify.outcome import Figures, Listing, Outcome, judged, unknown
from ddb_lake.pipeline.protection import former_values_text
from ddb_lake.pipeline.verify.continuity import Continuity, examine_continuity

CONTINUITY_QUESTION = "whether change records are missing in the changelog"

SHOWN = 25
"""The breaks that an evaluation lists at most."""

MOST_WITHOUT_OLD_IMAGE = 0.01
"""The share of the records that may lack the old image. A stream with NEW_IMAGE lacks it in each update and removal."""

_EXPLAINED = {
    "restated": "before export {export}: the rows have its items, but changes before it may be missing in the changelog",
    "known gap": "in a gap that is recorded and open",
    "quarantined": "while objects landed whose records are in the quarantine",
}
"""What explains a break, and leaves something open."""

_RESOLVED = {
    "repaired": "in gaps that an export has repaired",
    "discarded": "while objects landed whose quarantined records were discarded",
    "asserted": "before a repair or an incremental export that states the item",
}


def continuity(subject: Subject) -> Outcome:
    """No change record is missing in the time span of the setting. Missing ones are recorded as gaps."""
    table = subject.table
    return continuity_outcome(
        examine_continuity(subject.lake, table.name, seconds(table.checks.continuity) * 1_000_000)
    )


def continuity_outcome(found: Continuity) -> Outcome:
    """The outcome of an examination."""
    if found.changed_rules:
        return unknown(former_values_text(found.table, found.changed_rules), _figures(found))
    if not found.records and not found.gaps:
        return unknown("the changelog has no change record yet")
    figures = _figures(found)
    if found.missing or found.gaps:
        return judged(False, _missing_text(found), figures)
    if not found.compared and not found.exported:
        return unknown(
            f"none of {count_text(found.records, 'change record')} has a state to compare it with: no key changed twice, and no full export"
            " is in the time span",
            figures,
        )
    if found.without_old_image > MOST_WITHOUT_OLD_IMAGE * found.records:
        return unknown(
            f"{count_text(found.without_old_image, 'change record has', 'change records have')} no old image, of"
            f" {found.records}: the stream's view type must be"
            " NEW_AND_OLD_IMAGES, and no transformation may remove OldImage",
            figures,
        )
    explained = _sentences(found, _EXPLAINED)
    text = f"{_compared_text(found)}{explained}{_sentences(found, _RESOLVED)}"
    return judged(not explained, text, figures, certain=False)


def _missing_text(found: Continuity) -> str:
    low = min([*(b.from_us for b in found.listed if b.explanation == "missing"), *(g.from_us for g in found.gaps)])
    high = max([*(b.to_us for b in found.listed if b.explanation == "missing"), *(g.to_us for g in found.gaps)])
    span = f"between {time_text(low, unit='s')} and {time_text(high, unit='s')}"
    repair = f"`ddb-lake repair {found.table} --gaps` repairs this, `ddb-lake verify {found.table} --continuity` names the keys."
    if not found.missing:
        return f"Changes are missing {span}: the gap that was recorded then is not repaired yet. {repair}"
    return (
        f"{found.missing} times, the old image of a change record is not the state before it: changes are missing {span}."
        f" {found.compared} old images were compared. {repair}"
    )


def _compared_text(found: Continuity) -> str:
    span = f"from {time_text(found.first_us, unit='s')} to {time_text(found.last_us, unit='s')}"
    text = (
        f"Of {count_text(found.records, 'change record')} of {count_text(found.keys, 'key')} {span},"
        f" {found.compared} old images were compared with"
    )
    text += " the state after the record before"
    text += (
        f", and the records of {count_text(found.exported, 'key')} with export {found.export}" if found.export else ""
    )
    return f"{text}: {_differ(found.breaks.total()) if found.breaks else 'all are equal'}."


def _differ(count: int) -> str:
    return f"{count} {'differs' if count == 1 else 'differ'}"


def _sentences(found: Continuity, texts: dict[str, str]) -> str:
    return "".join(
        f" Of these, {_differ(count)} {text.format(export=found.export)}."
        for name, text in texts.items()
        if (count := found.breaks[name])  # type: ignore[index]
    )


def _figures(found: Continuity) -> Figures:
    figures: dict[str, str | int | float | bool | Listing] = {
        "change records": found.records,
        "keys": found.keys,
        "old images compared": found.compared,
        "keys compared with the export": found.exported,
        "records without old image": found.without_old_image,
        "differences without explanation": found.missing,
        "differences explained": found.breaks.total() - found.missing,
        "seconds": round(found.seconds, 2),
    }
    if found.listed:
        rows = tuple(
            (str(b.key_hash), time_text(b.from_us, unit="s"), time_text(b.to_us, unit="s"), b.explanation)
            for b in found.listed[:SHOWN]
        )
        figures["breaks"] = Listing(("_key_hash", "after", "before", "explanation"), rows)
    return figures
