"""Whether the tables of entities have the items of `current`, each in the entity that its key states."""

from __future__ import annotations

from ddb_lake.checks.check import Subject
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.verify.outcome import Listing, Outcome, judged, unknown
from ddb_lake.pipeline.verify.entities import EntitiesComparison, EntityComparison, compare_entities


def entities_complete(subject: Subject) -> Outcome:
    """Each existing item is in the entity that its key states, in the same version, and in no other."""
    found = compare_entities(subject.lake, subject.table.name)
    return unknown("the lake has no table yet") if found is None else entities_outcome(subject.table.name, found)


def entities_outcome(table: str, found: EntitiesComparison) -> Outcome:
    """The outcome of a comparison: red for a difference; yellow if a table is behind, for items of no entity, and for parts of keys
    that have not their declared type."""
    wrong = [one for one in found.entities if one.differences and not one.behind]
    behind = [one for one in found.entities if one.behind]
    text = (
        f"{count_text(found.items, 'item')} of {table} were compared with"
        f" {count_text(len(found.entities), 'entity', 'entities')}"
    )
    if wrong:
        counted = "; ".join(
            f"{one.table} lacks {one.missing}, has {one.extra} too many and {one.doubled} twice" for one in wrong
        )
        return judged(False, f"{text}: {counted}.", _figures(found))
    doubts = [f"{one.table} is behind current" for one in behind]
    if found.in_none:
        doubts.append(f"{count_text(found.in_none, 'item is', 'items are')} in no entity")
    doubts += [
        f"{one.table}: {part!r} has not its declared type in {count_text(rows, 'row')}, where it is NULL"
        for one in found.entities
        for part, rows in one.unconverted
    ]
    if doubts:
        return judged(False, f"{text}: {'; '.join(doubts)}.", _figures(found), certain=False)
    return judged(True, f"{text}: each is in the entity that its key states, and nowhere else.", _figures(found))


def _figures(found: EntitiesComparison) -> dict[str, str | int | float | bool | Listing]:
    rows = tuple(_row(one) for one in found.entities)
    columns = ("entity", "items", "rows", "missing", "extra", "doubled", "behind")
    return {"items": found.items, "in no entity": found.in_none, "entities": Listing(columns, rows)}


def _row(one: EntityComparison) -> tuple[str | int | bool, ...]:
    return one.entity, one.expected, one.rows or 0, one.missing, one.extra, one.doubled, one.behind
