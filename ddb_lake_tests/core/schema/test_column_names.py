"""How a column is named, how its path is written, and which type its numbers need."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddb_lake.core.schema.inference import Inference, NumberShape, need_of
from ddb_lake.core.schema.table_schema import (
    MAX_NAME_CHARS,
    MAX_RETIRED,
    RESERVED,
    Column,
    Identity,
    NameCollision,
    Path,
    SchemaOptions,
    TableSchema,
    column_names,
    evolve,
    name_collisions,
    new_collisions,
    parse_pointer,
    pointer,
    to_column,
    wanted_name,
)
from ddb_lake.core.values.change_record import Item
from ddb_lake_tests.support import strategies as ddb

# names


paths = st.lists(ddb.names() | st.from_regex(r"[a-c_]{1,3}", fullmatch=True), min_size=1, max_size=3).map(tuple)
identities = st.tuples(paths, st.sampled_from(("", "", "S", "N", "BOOL")))
identity_sets = st.sets(identities, max_size=12)


@given(identity_sets, identity_sets)
@settings(max_examples=200)
def test_column_names_are_safe_unique_without_case_and_never_reserved(
    found: set[Identity], earlier: set[Identity]
) -> None:
    known = column_names(sorted(earlier))
    names = column_names(sorted(found), known)
    assert set(names) == found
    together = {**known, **names}
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in together.values())
    assert all(len(name) <= MAX_NAME_CHARS + 10 for name in together.values())
    folded = {name.lower() for name in together.values()}
    assert len(folded) == len(together)
    assert not folded & RESERVED


@given(st.lists(identity_sets, max_size=4))
@settings(max_examples=200)
def test_column_names_are_kept_with_any_later_items(batches: list[set[Identity]]) -> None:
    known: dict[Identity, str] = {}
    for batch in batches:
        names = column_names(sorted(batch), known)
        assert all(names[path] == known[path] for path in batch & set(known))
        known |= names


@given(identity_sets, st.data())
def test_column_names_give_a_plain_name_to_the_first_that_wants_it(found: set[Identity], data: st.DataObject) -> None:
    order = data.draw(st.permutations(sorted(found)))
    names = column_names(order)
    first: dict[str, Identity] = {}
    for path in order:
        first.setdefault(wanted_name(path).lower(), path)
    for path in order:
        plain = wanted_name(path)
        has_it = first[plain.lower()] == path and plain.lower() not in RESERVED
        assert (names[path] == plain) == has_it


def test_column_names_of_items_go_to_the_key_then_to_the_more_frequent_attribute() -> None:
    rows: list[Item] = [{"id": {"S": "x"}, "ID": {"S": "x"}, "Status": {"S": "x"}, "status": {"S": "x"}}]
    rows += [{"ID": {"S": "x"}, "Status": {"S": "x"}, "a-b": {"S": "x"}, "a_b": {"S": "x"}}]
    seen = Inference(SchemaOptions())
    for row in rows:
        seen.observe(row)
    names = seen.schema(("id",)).names
    assert names[(("id",), "")] == "id"
    assert names[(("Status",), "")] == "Status"
    assert names[(("a_b",), "")] == "a_b"  # equally often: the one that needs no change
    assert {names[(path, "")][:-8] for path in (("ID",), ("status",), ("a-b",))} == {"ID_", "status_", "a_b_"}


def test_attribute_that_is_absent_for_a_while_gets_its_name_back() -> None:
    def seen(*names: str) -> Inference:
        found = Inference(SchemaOptions())
        found.observe({name: {"S": "x"} for name in ("id", *names)})
        return found

    first = seen("status").schema(("id",))
    second = seen("Status").schema(("id",), first)
    third = TableSchema.from_json(seen("status", "Status").schema(("id",), second).to_json())
    assert first.names.items() <= second.names.items() <= third.names.items()
    assert third.names[(("status",), "")] == "status"
    assert third.names[(("Status",), "")].startswith("Status_")
    assert second.retired == (((("status",), ""), "status"),)
    assert third.retired == ()


def test_retired_names_are_bounded_and_the_oldest_go_first() -> None:
    schema = TableSchema(("id",), (), tuple((((f"a{n}",), ""), f"a{n}") for n in range(MAX_RETIRED)))
    fuller = schema.with_columns([Column(("new",), "S", "new", "string")]).with_columns([])
    assert len(fuller.retired) == MAX_RETIRED
    assert fuller.retired[-1] == ((("new",), ""), "new")
    assert fuller.retired[0] == ((("a1",), ""), "a1")


def test_name_collisions_name_both_attributes_and_their_columns() -> None:
    schema = TableSchema(("id",), (Column(("id",), "S", "id", "string"),))
    columns = [Column(path, "S", "", "string") for path in (("ID",), ("_source",), ("plain",))]
    found = name_collisions(evolve(schema, columns))
    names = evolve(schema, columns).names
    assert found == (
        NameCollision("ID", names[(("ID",), "")], "id", "id"),
        NameCollision("_source", names[(("_source",), "")], None, "_source"),
    )
    for part in ("'ID'", "'id'", names[(("ID",), "")]):
        assert part in str(found[0])
    assert new_collisions(evolve(schema, columns[:1]), evolve(schema, columns)) == found[1:]


@pytest.mark.parametrize("name", [*sorted(RESERVED), "_SOURCE", "_Rescued"])
def test_column_names_never_give_a_reserved_name_away(name: str) -> None:
    assert re.fullmatch(re.escape(name) + r"_[0-9a-f]{8}", column_names([((name,), "")])[((name,), "")])


def test_column_names_of_names_that_end_like_a_suffixed_one_are_unique() -> None:
    """The author of attribute names can know the digests."""
    found: list[Identity] = [(("ID",), ""), (("id",), "")]
    for _ in range(3):
        found.append(((column_names(found)[(("id",), "")],), ""))
    for order in (found, found[::-1]):
        names = column_names(order)
        assert len({name.lower() for name in names.values()}) == len(found)
        assert [names[one] for one in found[2:]] == [path[0] for path, _ in found[2:]]


@pytest.mark.parametrize(
    ("path", "name"),
    [(("x-y z",), "x_y_z"), (("1st",), "_1st"), (("é",), "_"), (("",), "_"), (("a", "b", "c"), "a__b__c")],
)
def test_column_names_replace_what_is_not_safe(path: Path, name: str) -> None:
    assert column_names([(path, "")]) == {(path, ""): name}


def test_column_names_of_huge_names_are_short_and_apart() -> None:
    first, second = (("n" * 60_000 + "a",), ""), (("n" * 60_000 + "b",), "")
    names = column_names([first, second])
    assert names[first] == "n" * MAX_NAME_CHARS
    assert names[second].startswith("n" * MAX_NAME_CHARS + "_")


# pointers


@given(st.lists(ddb.names() | st.text("~/01", max_size=4), min_size=1, max_size=4).map(tuple))
def test_pointer_and_back_is_the_same_path(path: Path) -> None:
    assert parse_pointer(pointer(path)) == path


def test_pointer_is_that_of_rfc_6901() -> None:
    assert pointer(("a/b", "m~n", "", "~1")) == "/a~1b/m~0n//~01"
    assert parse_pointer("/a~1b/m~0n//~01") == ("a/b", "m~n", "", "~1")
    assert Column(("a", "b"), "S", "a__b", "string").pointer == "/a/b"


# numbers


number_lists = st.lists(ddb.spelled_numbers().map(lambda pair: pair[0]) | ddb.numbers(), min_size=1, max_size=5)


def shape(texts: Sequence[str]) -> NumberShape:
    found = NumberShape()
    for text in texts:
        found.observe(text)
    return found


@given(number_lists, number_lists, st.data())
def test_number_shape_ignores_order_and_division(left: list[str], right: list[str], data: st.DataObject) -> None:
    merged = shape(left)
    merged.merge(shape(right))
    assert merged == shape(data.draw(st.permutations(left + right)))


@given(number_lists)
@settings(max_examples=200)
def test_number_shape_gives_the_narrowest_exact_type(texts: list[str]) -> None:
    values = [Decimal(text) for text in texts]
    fitting = [scale for scale in range(38) if all(fits_decimal(value, scale) for value in values)]
    if all(fits_decimal(value, 0) and -(2**63) <= value < 2**63 for value in values):
        expected = "long"
    else:
        expected = f"decimal(38,{fitting[0]})" if fitting else "string"
    assert shape(texts).column_type() == expected


def fits_decimal(value: Decimal, scale: int) -> bool:
    _, digits, exponent = value.as_tuple()
    if not value:
        return True
    stripped = "".join(map(str, digits)).rstrip("0")
    last = int(exponent) + len(digits) - len(stripped)
    return last >= -scale and value.adjusted() < 38 - scale


@pytest.mark.parametrize(
    ("texts", "column_type"),
    [
        (["9223372036854775807", "-9223372036854775808"], "long"),
        (["9223372036854775808"], "decimal(38,0)"),
        (["-9223372036854775809"], "decimal(38,0)"),
        (["1.0", "1E3"], "long"),
        (["9" * 38], "decimal(38,0)"),
        (["1" + "0" * 37], "decimal(38,0)"),
        (["9" * 39], "string"),
        (["0." + "0" * 36 + "1"], "decimal(38,37)"),
        (["0." + "0" * 37 + "1"], "string"),
        (["1." + "1" * 37], "decimal(38,37)"),
        (["10", "0." + "1" * 37], "string"),
        (["9" * 36, "0.25"], "decimal(38,2)"),
        (["9" * 37, "0.25"], "string"),
    ],
)
def test_number_shape_at_its_boundaries(texts: list[str], column_type: str) -> None:
    assert shape(texts).column_type() == column_type


@given(number_lists)
def test_number_column_holds_every_number_it_was_made_for(texts: list[str]) -> None:
    column = Column(("n",), "N", "n", shape(texts).column_type())
    assert all(to_column(column, {"N": text})[0] is not None for text in texts)


@pytest.mark.parametrize("column_type", ["long", "decimal(38,0)", "decimal(38,37)", "string"])
def test_shape_of_a_column_leads_to_its_type_again(column_type: str) -> None:
    assert NumberShape(known=need_of(column_type)).column_type() == column_type
    assert NumberShape({need_of(f"list<{column_type}>"): 1}).column_type() == column_type


@pytest.mark.parametrize(
    ("common", "odd", "column_type"),
    [
        (["1.25"] * 99, ["1E+125"], "decimal(38,2)"),
        (["1.25"] * 98, ["1E+125"], "string"),
        (["7"] * 999, ["0.5"], "long"),
        (["7", "8"], ["0.5"], "decimal(38,1)"),
        (["1E+100"] * 5, [], "string"),
        (["1.5"] * 990 + ["1.25"] * 5, ["9" * 38] * 5, "decimal(38,1)"),
    ],
)
def test_a_column_has_the_narrowest_type_of_99_percent_and_a_key_that_of_all(
    common: list[str], odd: list[str], column_type: str
) -> None:
    found = shape([*common, *odd])
    assert found.column_type() == column_type
    assert found.column_type(percent=100) == shape(list(dict.fromkeys([*common, *odd]))).column_type(percent=100)


def test_a_set_counts_once_with_what_its_members_need_together() -> None:
    found = NumberShape()
    for _ in range(99):
        found.observe("1", "2")
    found.observe("1", "2", "3.5", "4.5")
    assert found.column_type() == "long"
