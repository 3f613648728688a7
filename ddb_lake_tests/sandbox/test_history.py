from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.sandbox.history import NetChange, TableHistory
from ddb_lake.sandbox.items import Item, Key

writes = st.lists(st.tuples(st.integers(0, 4), st.none() | st.integers(0, 2)), max_size=40)


def key(number: int) -> Key:
    return (("pk", "N", str(number)),)


def item(number: int, value: int) -> Item:
    return {"pk": {"N": str(number)}, "v": {"N": str(value)}}


def written(steps: list[tuple[int, int | None]]) -> tuple[TableHistory, list[dict[Key, Item]]]:
    """A history of the steps, one a microsecond from 1 on, and the table after each."""
    history, state, states = TableHistory("id", 0), {}, [{}]
    for time_us, (number, value) in enumerate(steps, start=1):
        new = None if value is None else item(number, value)
        history.observe(key(number), new, time_us)
        if new is None:
            state.pop(key(number), None)
        else:
            state[key(number)] = new
        states.append(dict(state))
    return history, states


def as_set(items: list[Item]) -> set[str]:
    return {str(sorted(found.items())) for found in items}


@given(writes)
def test_items_at_any_time_are_the_table_then(steps: list[tuple[int, int | None]]) -> None:
    history, states = written(steps)
    for time_us, state in enumerate(states):
        assert as_set(history.items_at(time_us)) == as_set(list(state.values()))
    assert history.living == states[-1]


@given(writes, st.integers(0, 41), st.integers(0, 41))
def test_net_changes_lead_from_the_table_before_to_the_table_after(
    steps: list[tuple[int, int | None]], one: int, other: int
) -> None:
    from_us, to_us = sorted((one, other))
    history, states = written(steps)
    before, after = states[max(0, min(from_us - 1, len(steps)))], states[max(0, min(to_us - 1, len(steps)))]
    state = dict(before)
    for net in history.net_changes(from_us, to_us):
        assert net.old == before.get(net.key)
        assert from_us <= net.written_us < to_us
        if net.new is None:
            del state[net.key]
        else:
            state[net.key] = net.new
    assert state == after


def test_observe_of_what_already_is_so_is_no_change() -> None:
    history = TableHistory("id", 0)
    history.observe(key(1), item(1, 1), 1)
    assert history.observe(key(1), item(1, 1), 2) is None
    assert history.observe(key(2), None, 3) is None
    assert len(history.changes) == 1


def test_observe_names_what_happened() -> None:
    history = TableHistory("id", 0)
    steps = [(1, item(1, 1)), (2, item(1, 2)), (3, None)]
    changes = [history.observe(key(1), new, time_us) for time_us, new in steps]
    assert [change.event_name for change in changes if change] == ["INSERT", "MODIFY", "REMOVE"]
    assert all(change.keys == {"pk": {"N": "1"}} for change in changes if change)


def test_net_changes_of_an_item_inserted_and_removed_inside_is_nothing() -> None:
    history = TableHistory("id", 0)
    history.observe(key(1), item(1, 1), 1)
    history.observe(key(1), None, 2)
    assert list(history.net_changes(1, 3)) == []
    assert list(history.net_changes(2, 3)) == [NetChange(key(1), item(1, 1), None, 2)]
