"""What commits carry as table properties comes back as it was, and an empty table has the empty state."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.schema.table_schema import Column, TableSchema
from ddb_lake.lake.state import PREFIX, ChangesState, CurrentState, LoadedExport, NamedExport, exports_without_commit

TIMES = st.integers(-(2**53), 2**53)
NAMES = st.text(min_size=1, max_size=8)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
TYPES = st.sampled_from((("N", "long"), ("N", "decimal(38,9)"), ("S", "string"), ("NS", "list<long>")))
COLUMNS = st.builds(lambda path, kind, name: Column(path, kind[0], name, kind[1]), PATHS, TYPES, NAMES)
SCHEMAS = st.builds(TableSchema, st.lists(NAMES, max_size=2).map(tuple), st.lists(COLUMNS, max_size=3).map(tuple))
EXPORTS = st.builds(LoadedExport, NAMES, NAMES, TIMES, st.integers(0, 10**9), NAMES, SCHEMAS, st.none() | NAMES)
CURRENT = st.builds(
    CurrentState,
    SCHEMAS,
    st.integers(0, 10**6),
    st.lists(EXPORTS, max_size=3).map(tuple),
    st.none() | TIMES,
)
CHANGES = st.builds(
    ChangesState,
    st.lists(NAMES, max_size=2).map(tuple),
    st.integers(0, 10**6),
    st.integers(0, 10**12),
    st.none() | TIMES,
    st.none() | TIMES,
    st.lists(NAMES, max_size=3).map(tuple),
    exports=st.lists(st.builds(NamedExport, NAMES, st.none() | NAMES), max_size=3).map(tuple),
)


@given(CURRENT)
def test_state_of_current_comes_back(state: CurrentState) -> None:
    assert CurrentState.from_properties(state.properties()) == state


@given(CHANGES)
def test_state_of_the_changelog_comes_back(state: ChangesState) -> None:
    assert ChangesState.from_properties(state.properties()) == state


@given(CURRENT, CHANGES)
def test_states_are_texts_under_our_prefix_and_leave_other_properties_alone(
    current: CurrentState, changes: ChangesState
) -> None:
    for properties in (current.properties(), changes.properties()):
        assert all(name.startswith(PREFIX) and isinstance(text, str) for name, text in properties.items())
    others = {"write.format": "x", "schema": "not ours"}
    assert CurrentState.from_properties({**others, **current.properties()}) == current


def test_table_without_properties_has_the_empty_state() -> None:
    assert CurrentState.from_properties({}) == CurrentState(TableSchema(()))
    assert ChangesState.from_properties({}) == ChangesState()


def export(number: int, export_us: int) -> LoadedExport:
    return LoadedExport(f"0{number}", f"arn/{number}", export_us, 0, f"export-{number}", TableSchema(()))


@given(CHANGES, st.lists(EXPORTS, max_size=3))
def test_exports_are_named_once_and_none_is_forgotten(log: ChangesState, loaded: list[LoadedExport]) -> None:
    named = log.naming(loaded)
    assert named.naming(loaded) == named
    identifiers = [export.export_id for export in named.exports]
    assert identifiers == sorted({export.export_id for export in (*log.exports, *loaded)})
    state = CurrentState(TableSchema(()), exports=tuple(loaded))
    missing = {export.export_id for export in exports_without_commit(state, named)}
    assert missing == set(identifiers) - {export.export_id for export in loaded}
    assert exports_without_commit(None, named) == named.exports


def test_base_is_the_newest_export_whatever_the_order_of_loading() -> None:
    older, newer, same = export(1, 10), export(2, 20), export(3, 20)
    for exports in ((older, newer, same), (same, newer, older)):
        state = CurrentState(TableSchema(()), exports=exports)
        assert state.base == same
        assert [state.base_at(us) for us in (9, 10, 19, 20, 99)] == [None, older, older, same, same]
    assert CurrentState(TableSchema(())).base is None


def test_state_of_an_earlier_release_keeps_its_names_and_those_of_its_exports() -> None:
    now = TableSchema(("id",), (Column(("id",), "S", "id_1a2b3c4d", "string"), Column(("ID",), "S", "ID", "string")))
    then = TableSchema(("id",), (Column(("id",), "S", "ID", "string"), Column(("gone",), "S", "gone", "string")))
    state = CurrentState(now, exports=(LoadedExport("e", "arn", 1, 1, "export-e", then),))
    properties = state.properties()
    for name in ("schema", "exports"):
        document = json.loads(properties[PREFIX + name])
        for schema in [document] if name == "schema" else [export["schema"] for export in document]:
            del schema["retired"]
        properties[PREFIX + name] = json.dumps(document)
    found = CurrentState.from_properties(properties)
    assert found.schema.columns == now.columns
    assert found.schema.names == {(("id",), ""): "id_1a2b3c4d", (("ID",), ""): "ID", (("gone",), ""): "gone"}
    assert found.exports == state.exports


def test_cutoff_of_a_young_stream_of_whole_seconds_is_before_the_second_of_the_export() -> None:
    export_us, stream = 7_300_000, "arn:aws:dynamodb:eu-west-1:123456789012:table/t/stream/s"
    assert ChangesState(sources=(stream, "time")).snapshot_cutoff_us(export_us, 1) == 6_999_999
    assert ChangesState(sources=("assertion", "time")).snapshot_cutoff_us(export_us, 1) == export_us
    assert ChangesState(first_change_us=0, sources=(stream,)).snapshot_cutoff_us(export_us, 1) == export_us - 1
