"""Whether the files of a table were written by the rules of protected attributes that the configuration has now."""

from __future__ import annotations

from collections.abc import Mapping

from ddb_lake.core.protection.rules import FILTER, KEY_ID, stored_rules
from ddb_lake.lake.state import ChangesState, CurrentState, changes_state, current_state
from ddb_lake.pipeline.open_lake import Lake


def changed_rules(lake: Lake, name: str, now: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The attributes whose rule is another one than that by which `current` or the changelog was begun.

    Args:
        lake: the open lake.
        name: the table.
        now: `Protection.stored`. By default, the rules of the configuration are compared without the key of hashes.

    Returns:
        As `rules_changed_since`.
    """
    table = lake.table(name)
    wanted = stored_rules(table.protecting_rules, table.key_filter) if now is None else now
    return rules_changed_since(current_state(lake.current(name)), changes_state(lake.changes(name)), wanted)


def rules_changed_since(state: CurrentState | None, log: ChangesState, wanted: Mapping[str, str]) -> tuple[str, ...]:
    """`changed_rules` for states that were read before.

    Args:
        state: the state of `current`; None without one.
        log: the state of the changelog.
        wanted: `Protection.stored`.

    Returns:
        The attributes, sorted; `hash_key` for all hashed ones if the key is another one; `filter` if that is another one. Empty if
        all are the same, or the table has no rows and no records.
    """
    changed: set[str] = set()
    for stored in ([state.protection] if state else []) + ([log.protection] if log.records else []):
        changed |= {path for path in {*stored, *wanted} - {KEY_ID} if stored.get(path) != wanted.get(path)}
        if KEY_ID in stored and KEY_ID in wanted and stored[KEY_ID] != wanted[KEY_ID]:
            changed.add("hash_key")
    return tuple(sorted("filter" if path == FILTER else path for path in changed))


def former_values_text(name: str, changed: tuple[str, ...]) -> str:
    """What changed rules mean for a table's files, in words."""
    return (
        f"{name}: files of the lake were written with other settings of {', '.join(changed)}, so they may have former values or items."
        f" `ddb-lake rebuild {name}` writes all of them again"
    )


def remedy(name: str, changed: tuple[str, ...]) -> str:
    """The sentence that says what to do about differences between a table and its source. `changed`: `changed_rules`."""
    if changed:
        return (
            f"Files of the lake were written with other settings of {', '.join(changed)}, so the lake can differ without a fault:"
            f" `ddb-lake rebuild {name}` writes them again. Verify afterwards."
        )
    return f"`ddb-lake repair {name}` repairs them."


def warn_of_former_values(lake: Lake, name: str) -> None:
    """Warn if the rules of a table's protected attributes changed since its files were begun."""
    changed = changed_rules(lake, name, lake.protection(name).stored)
    if changed:
        lake.warn(former_values_text(name, changed))
