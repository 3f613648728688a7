"""Columns are a function of the set of items, and hold every item exactly, with `_rescued`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddb_lake.core.schema.inference import MAX_MAP_CHILDREN, Inference
from ddb_lake.core.schema.table_schema import (
    MAX_COLUMNS,
    Column,
    Path,
    SchemaOptions,
    TableSchema,
    evolve,
    name_collisions,
    pointer,
    project,
    restore,
)
from ddb_lake.core.values.change_record import AttributeValue, Item
from ddb_lake_tests.support import strategies as ddb

KEY = ("pk",)
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,119}").fullmatch
MINIMAL = SchemaOptions()


def inferred(items: Sequence[Item], options: SchemaOptions = MINIMAL) -> Inference:
    inference = Inference(options)
    for item in items:
        inference.observe(item)
    return inference


def schema_of(items: Sequence[Item], options: SchemaOptions = MINIMAL, key: Sequence[str] = KEY) -> TableSchema:
    return inferred(items, options).schema(key)


def columns_of(items: Sequence[Item], options: SchemaOptions = MINIMAL) -> list[Column]:
    return inferred(items, options).columns(KEY)


def types_of(items: Sequence[Item], options: SchemaOptions = MINIMAL) -> dict[str, str]:
    return {".".join(c.path): c.type for c in schema_of(items, options).columns if c.path != KEY}


def named(items: Sequence[Item], options: SchemaOptions = MINIMAL, known: TableSchema | None = None) -> dict[str, str]:
    """The type of each column but the key's, by its name."""
    return {c.name: c.type for c in inferred(items, options).schema(KEY, known).columns if c.path != KEY}


def paths_of(schema: TableSchema) -> list[Path]:
    return [c.path for c in schema.columns]


# inference

item_lists = st.lists(ddb.items(), max_size=5)

contested = st.recursive(
    st.sampled_from(("1", "1.50", "2.5", "1E30", "12E-20")).map(lambda text: {"N": text})
    | st.sampled_from(({"S": "x"}, {"NULL": True}, {"NS": ["1.0"]}, {"NS": []}, {"BS": []}, {"B": "AB=="})),
    lambda inner: st.builds(lambda members: {"M": members}, st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
    max_leaves=4,
)
contested_lists = st.lists(st.dictionaries(st.sampled_from("ab"), contested, max_size=2), max_size=6)
"""Items whose few attributes are of one type here and of another there, oddly spelled numbers among them."""

options = st.builds(SchemaOptions, nested=st.sampled_from(("flatten", "json")), depth=st.integers(1, 4))


@given(item_lists, options, st.data())
@settings(max_examples=100)
def test_inference_ignores_the_order(items: list[Item], opted: SchemaOptions, data: st.DataObject) -> None:
    assert schema_of(data.draw(st.permutations(items)), opted) == schema_of(items, opted)


@given(st.lists(st.tuples(ddb.values(), st.integers(1, 3)), max_size=4))
def test_inference_counts_equal_values_as_if_seen_one_by_one(found: list[tuple[AttributeValue, int]]) -> None:
    at_once, one_by_one = Inference(MINIMAL), Inference(MINIMAL)
    for value, count in found:
        at_once.observe_value(("a",), value, count)
        for _ in range(count):
            one_by_one.observe_value(("a",), value)
    assert at_once.paths == one_by_one.paths


contested_types = st.dictionaries(
    st.sampled_from(("a", "b", "a.a", "a.b", "b.a")),
    st.sampled_from(("string", "json", "double", "decimal(38,2)")),
    max_size=2,
)


@given(contested_lists, st.integers(0, 3), contested_types)
@settings(max_examples=400)
def test_inference_from_columns_and_leftovers_comes_to_the_schema_of_the_items(
    items: list[Item], sampled: int, overrides: dict[str, str]
) -> None:
    """What `engine.schema_fitting` does in SQL: from whatever sample it starts, it ends at the same."""
    opted = SchemaOptions(overrides=overrides)
    schema = schema_of(items[:sampled], opted)
    for _ in range(12):
        schema, previous = refitted(items, schema, opted), schema
        if schema == previous:
            break
    assert schema == schema_of(items, opted)


def refitted(rows: Sequence[Item], schema: TableSchema, opted: SchemaOptions) -> TableSchema:
    inference = Inference(opted)
    for row in rows:
        values, rescued = project(row, schema)
        held = [column for column, value in zip(schema.columns, values, strict=True) if value is not None]
        maps = {column.path[:length] for column in held for length in range(1, len(column.path))}
        columns = {(column.path, tag): column for column in schema.columns for tag in column.tags}
        inference.observe_rescued(rescued, 1, maps, columns)
        for column in held:
            inference.observe_column(column, 1)
        for path in maps:
            inference.observe_maps(path, 1)
    return inference.schema(schema.key)


def many(*values: tuple[AttributeValue, int]) -> list[Item]:
    return [{"a": value} for value, count in values for _ in range(count)]


def test_type_of_more_than_a_hundredth_of_the_values_has_a_variant() -> None:
    text, number, flag = {"S": "x"}, {"N": "1"}, {"BOOL": True}
    assert named(many((text, 99), (number, 1))) == {"a": "string"}
    assert named(many((text, 98), (number, 1), (flag, 1))) == {"a": "string"}
    assert named(many((text, 98), (number, 1))) == {"a": "string", "a__n": "long"}
    assert named(many((text, 98), (number, 2), ({"NULL": True}, 200))) == {"a": "string", "a__n": "long"}
    assert named(many((text, 5), (number, 3), (flag, 2), ({"SS": ["x"]}, 1))) == {
        "a": "string", "a__n": "long", "a__bool": "boolean", "a__ss": "list<string>",
    }  # fmt: skip


def test_variant_and_columns_of_the_members_of_a_map_are_beside_each_other() -> None:
    a_map: AttributeValue = {"M": {"s": {"S": "x"}}}
    found = named(many(({"N": "1"}, 3), ({"S": "x"}, 2), (a_map, 1)))
    assert list(found)[:2] == ["a", "a__s"], "two texts and one member need the name"
    assert re.fullmatch(r"a__s_[0-9a-f]{8}", list(found)[2])
    assert named(many((a_map, 3), ({"S": "x"}, 1))) == {"a": "string", "a__s": "string"}
    assert named(many((a_map, 3), ({"S": "x"}, 1)), SchemaOptions(nested="json")) == {"a": "json", "a__s": "string"}
    assert named(many((a_map, 1), ({"S": "x"}, 3)), SchemaOptions(nested="json")) == {"a": "string", "a__m": "json"}


def test_declared_type_decides_which_column_has_the_name_of_the_attribute() -> None:
    mixed = many(({"S": "x"}, 3), ({"N": "1"}, 2), ({"SS": ["x"]}, 1))
    assert named(mixed, SchemaOptions(overrides={"a": "long"})) == {
        "a": "long",
        "a__s": "string",
        "a__ss": "list<string>",
    }
    assert named(mixed, SchemaOptions(overrides={"a": "string"})) == {"a": "string", "a__ss": "list<string>"}
    assert named(mixed, SchemaOptions(overrides={"a": "json"})) == {"a": "json"}


def test_name_of_a_variant_keeps_its_meaning_when_types_come_and_go() -> None:
    text, number = {"S": "x"}, {"N": "1"}
    first = schema_of(many((number, 2), (text, 1)))
    assert [c.name for c in first.columns] == ["pk", "a", "a__s"]
    for rows, expected in (
        (many((number, 1), (text, 2)), {"a": "long", "a__s": "string"}),
        (many((text, 2)), {"a__s": "string"}),
        (many((number, 2)), {"a": "long"}),
        (many((text, 2), ({"B": "AA=="}, 1)), {"a__s": "string", "a": "binary"}),
    ):
        assert named(rows, known=first) == expected
        again = inferred(many((number, 1), (text, 1)), MINIMAL).schema(KEY, inferred(rows).schema(KEY, first))
        assert [c.name for c in again.columns] == ["pk", "a", "a__s"], "each name has the meaning that it had"
    assert named(many((text, 1)), known=schema_of(many((number, 1)))) == {"a": "string"}, "the type of a column changes"


def test_variant_stays_while_it_has_a_value_and_comes_only_with_a_share_of_the_table() -> None:
    text, number = {"S": "x"}, {"N": "1"}
    known = schema_of(many((number, 2), (text, 1)))
    assert named(many((number, 999), (text, 1)), known=known) == {"a": "long", "a__s": "string"}
    assert named(many((number, 999)), known=known) == {"a": "long"}
    alone = schema_of(many((number, 1)))
    found = inferred(many((text, 3)))
    assert evolve(alone, found.columns(KEY, alone, rows=300)) == alone
    assert [c.name for c in evolve(alone, found.columns(KEY, alone, rows=299)).columns] == ["pk", "a", "a__s"]


def test_variant_whose_name_another_attribute_has_gets_a_suffix() -> None:
    rows: list[Item] = [{"a": {"S": "x"}, "a__n": {"S": "y"}}, {"a": {"N": "1"}, "a__n": {"S": "y"}}]
    names = {c.identity: c.name for c in schema_of(rows).columns}
    assert names[(("a__n",), "")] == "a__n"
    assert re.fullmatch(r"a__n_[0-9a-f]{8}", names[(("a",), "N")])
    assert [str(one) for one in name_collisions(schema_of(rows))] == [
        f"attributes 'a__n' and 'a (N)' need the same column name: 'a__n' has column a__n, 'a (N)' has column {names[(('a',), 'N')]}"
    ]


def test_inference_takes_the_type_that_most_values_have() -> None:
    text, number = {"a": {"S": "x"}}, {"a": {"N": "1"}}
    assert named([number, text, number]) == {"a": "long", "a__s": "string"}
    assert named([number, text]) == named([text, number]) == {"a": "string", "a__n": "long"}
    assert named([{"a": {"BOOL": True}}, {"a": {"B": ""}}]) == {"a": "binary", "a__bool": "boolean"}
    assert types_of([text, {"a": {"NULL": True}}, {"a": {"NULL": True}}]) == {"a": "string"}
    assert types_of([{"a": {"NULL": True}}, {"a": {"M": {}}}]) == {}


@pytest.mark.parametrize(
    ("value", "column_type"),
    [
        ({"S": ""}, "string"), ({"N": "1"}, "long"), ({"B": ""}, "binary"), ({"BOOL": False}, "boolean"),
        ({"SS": ["a"]}, "list<string>"), ({"NS": ["1"]}, "list<long>"), ({"NS": ["1.5"]}, "list<decimal(38,1)>"),
        ({"NS": ["1E-100"]}, "list<string>"), ({"BS": [""]}, "list<binary>"), ({"L": []}, "json"),
        ({"SS": []}, "list<string>"), ({"NS": []}, "list<long>"), ({"BS": []}, "list<binary>"),
    ],
)  # fmt: skip
def test_inference_has_a_column_type_for_each_dynamodb_type(value: AttributeValue, column_type: str) -> None:
    assert types_of([{"a": value}]) == {"a": column_type}
    assert types_of([{"a": {"M": {"b": value}}}]) == {"a.b": column_type}


def test_inference_puts_the_key_first_and_has_it_always() -> None:
    rows: list[Item] = [{"a": {"S": "x"}, "sk": {"B": ""}, "pk": {"N": "1"}}, {"b": {"S": ""}}, {"b": {"S": ""}}]
    schema = schema_of(rows, key=("sk", "pk"))
    assert [(c.name, c.type) for c in schema.columns[:2]] == [("sk", "binary"), ("pk", "long")]
    assert [c.name for c in schema.columns[2:]] == ["a", "b"]
    assert paths_of(schema_of([], key=("sk", "pk"))) == [("sk",), ("pk",)]


def test_schema_as_json_and_back_is_the_same() -> None:
    schema = schema_of([{"a": {"M": {"b": {"NS": ["1.5"]}}}, "n": {"N": "1E50"}}])
    assert TableSchema.from_json(schema.to_json()) == schema
    declared_too = schema_of(
        [{"a": {"S": "x"}, "b": {"N": "1"}}], SchemaOptions(overrides={"a": "json", "b": "string"})
    )
    assert TableSchema.from_json(declared_too.to_json()) == declared_too
    assert schema.column(("a", "b")) == schema.columns[1]
    assert schema.column(("a",)) is None


# maps and limits


def test_map_is_flattened_down_to_the_depth_and_json_below() -> None:
    item: Item = {"a": {"M": {"b": {"M": {"c": {"S": "x"}}}}}}
    assert types_of([item], SchemaOptions(depth=1)) == {"a": "json"}
    assert types_of([item], SchemaOptions(depth=2)) == {"a.b": "json"}
    assert types_of([item], SchemaOptions(depth=3)) == {"a.b.c": "string"}
    assert types_of([item], SchemaOptions(nested="json")) == {"a": "json"}


@pytest.mark.parametrize(("members", "columns"), [(MAX_MAP_CHILDREN, MAX_MAP_CHILDREN), (MAX_MAP_CHILDREN + 1, 1)])
def test_map_used_as_a_dictionary_becomes_one_json_column(members: int, columns: int) -> None:
    rows: list[Item] = [{"m": {"M": {f"k{number}": {"N": "1"}}}} for number in range(members)]
    schema = schema_of(rows)
    assert len(schema.columns) == columns + 1
    assert schema_of(rows[::-1]) == schema
    assert all(not project(row, schema)[1] for row in rows)


def test_map_that_grows_into_a_dictionary_adds_no_more_columns() -> None:
    rows: list[Item] = [{"m": {"M": {f"k{number}": {"N": "1"}}}} for number in range(MAX_MAP_CHILDREN + 1)]
    known = schema_of(rows[:150])
    assert evolve(known, columns_of(rows)) == known
    assert restore(*project(rows[-1], known), known) == rows[-1]


def test_columns_beyond_the_most_are_the_rarest_and_are_rescued() -> None:
    rows: list[Item] = [{f"a{number}": {"N": "1"} for number in range(MAX_COLUMNS + 4)}, {"a999": {"N": "2"}}]
    rows.append({"pk": {"S": "the key is rare as well"}})
    schema = schema_of(rows)
    assert len(schema.columns) == MAX_COLUMNS
    assert schema.columns[0].path == KEY
    lost = [("a994",), ("a995",), ("a996",), ("a997",), ("a998",)]  # all but the last are in one item
    assert sorted({(name,) for name in rows[0]} - set(paths_of(schema))) == lost
    assert schema_of(rows[::-1]) == schema
    values, rescued = project(rows[0], schema)
    assert set(rescued) == {pointer(path) for path in lost}
    assert restore(values, rescued, schema) == rows[0]
    assert evolve(schema, columns_of([{"new": {"S": "x"}}])) == schema


# overrides


def overridden(value: AttributeValue, column_type: str) -> dict[str, str]:
    return types_of([{"a": value}], SchemaOptions(overrides={"a": column_type}))


@pytest.mark.parametrize("column_type", ["long", "double", "decimal(38,2)"])
def test_override_of_a_number_type_decides_the_numbers_alone(column_type: str) -> None:
    assert overridden({"N": "1.125"}, column_type) == {"a": column_type}
    assert overridden({"S": "x"}, column_type) == {"a": "string"}
    assert overridden({"B": "AA=="}, column_type) == {"a": "binary"}
    assert overridden({"NS": ["1"]}, column_type) == {"a": "list<long>"}
    assert overridden({"M": {"b": {"N": "1"}}}, column_type) == {"a.b": "long"}


def declared(column_type: str, rows: Sequence[Item]) -> TableSchema:
    return schema_of(rows, SchemaOptions(overrides={"a": column_type}), key=())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"S": "x"}, "x"), ({"N": "1.50"}, "1.50"), ({"N": "9" * 38}, "9" * 38), ({"B": "AB=="}, "AB=="),
        ({"BOOL": True}, "true"), ({"BOOL": False}, "false"),
    ],
)  # fmt: skip
def test_column_declared_as_string_has_the_text_of_any_scalar(value: AttributeValue, text: str) -> None:
    ((tag, _),) = value.items()
    alone = declared("string", [{"a": value}])
    assert alone.columns == (Column(("a",), tag, "a", "string", "declared"),)
    assert project({"a": value}, alone) == ([text], {})
    other: AttributeValue = {"N": "7"} if tag != "N" else {"S": "seven"}
    mixed = declared("string", [{"a": other}])
    assert project({"a": value}, mixed) == ([text], {"/a": value})
    assert restore(*project({"a": value}, mixed), mixed) == {"a": value}


def test_column_declared_as_string_has_the_type_of_most_scalars() -> None:
    text, number, flag = {"a": {"S": "x"}}, {"a": {"N": "1"}}, {"a": {"BOOL": True}}
    assert declared("string", [number, text, number, flag]).columns[0].tag == "N"
    assert declared("string", [number, text]).columns[0].tag == "S"
    assert declared("string", [{"a": {"SS": ["x"]}}]).columns == (Column(("a",), "SS", "a", "list<string>"),)
    assert declared("string", [{"a": {"NULL": True}}]).columns == ()


@pytest.mark.parametrize(
    ("value", "text", "exact"),
    [
        ({"S": '"x"'}, r'"\"x\""', True), ({"N": "1.5"}, "1.5", True), ({"N": "1.50"}, "1.5", False),
        ({"N": "1" * 38}, "1" * 38, True), ({"BOOL": False}, "false", True), ({"NULL": True}, "null", True),
        ({"M": {}}, "{}", True), ({"L": [{"N": "1"}, {"S": "1"}, {"NULL": True}]}, '[1,"1",null]', True),
        ({"M": {"S": {"S": "x"}, "b": {"M": {"c": {"N": "0.1"}}}}}, '{"S":"x","b":{"c":0.1}}', True),
        ({"SS": ["x"]}, '["x"]', False), ({"NS": ["1"]}, "[1]", False), ({"B": "AA=="}, '"AA=="', False),
        ({"L": [{"B": "AA=="}]}, '["AA=="]', False),
    ],
)  # fmt: skip
def test_column_declared_as_json_has_any_value_as_plain_json(value: AttributeValue, text: str, exact: bool) -> None:
    schema = declared("json", [{"a": {"S": "x"}}])
    assert schema == declared("json", [{"a": value}])
    assert schema.columns == (Column(("a",), "ANY", "a", "json", "declared"),)
    assert project({"a": value}, schema) == ([text], {} if exact else {"/a": value})
    assert restore(*project({"a": value}, schema), schema) == {"a": value}


def test_column_of_a_key_is_not_a_declared_one() -> None:
    rows: list[Item] = [{"pk": {"N": "1"}}]
    for column_type, kept in (("string", "string"), ("json", "long")):
        schema = schema_of(rows, SchemaOptions(overrides={"pk": column_type}))
        assert schema.columns == (Column(("pk",), "N", "pk", kept),)


def test_override_names_a_member_by_its_path_and_an_attribute_by_its_name() -> None:
    opted = SchemaOptions(overrides={"a.b": "json", "a.n": "double", "n": "string"})
    item: Item = {"a": {"M": {"b": {"M": {"c": {"S": ""}}}, "n": {"N": "1"}}}, "n": {"N": "2"}, "a.n": {"N": "3"}}
    assert types_of([item], opted) == {"a.b": "json", "a.n": "double", "n": "string"}
    assert [c.type for c in schema_of([item], opted).columns if c.path in (("a.n",), ("a", "n"))] == ["double"] * 2


def test_override_does_not_make_a_key_a_double_that_takes_two_keys_for_one() -> None:
    rows: list[Item] = [{"pk": {"N": "9007199254740993"}, "a": {"N": "1"}}]
    schema = schema_of(rows, SchemaOptions(overrides={"pk": "double", "a": "double"}))
    assert [c.type for c in schema.columns] == ["long", "double"]


@pytest.mark.parametrize(
    ("column_type", "text", "held", "exact"),
    [
        ("string", "1.50", "1.50", True), ("long", "1.5", None, False), ("long", "1.0", "1", False),
        ("decimal(38,2)", "1.25", "1.25", True), ("decimal(38,2)", "1.255", None, False),
        ("decimal(38,2)", "1.50", "1.5", False), ("decimal(38,2)", "9" * 36, "9" * 36, True),
        ("decimal(38,2)", "9" * 37, None, False), ("long", "9223372036854775808", None, False),
        ("double", "0.1", "0.1", False), ("double", "123456789012345", "123456789012345", True),
        ("double", "9007199254740993", "9007199254740993", False),
    ],
)  # fmt: skip
def test_number_that_its_column_does_not_hold_exactly_is_rescued(
    column_type: str, text: str, held: str | None, exact: bool
) -> None:
    schema = TableSchema((), (Column(("n",), "N", "n", column_type),))
    assert project({"n": {"N": text}}, schema) == ([held], {} if exact else {"/n": {"N": text}})


@pytest.mark.parametrize(("tag", "content", "held"), [("B", "AB==", b"\0"), ("BS", ["AA==", "AB=="], [b"\0", b"\0"])])
def test_binary_in_another_spelling_is_in_its_column_and_is_rescued(
    tag: str, content: str | list[str], held: bytes | list[bytes]
) -> None:
    item: Item = {"b": {tag: content}}
    schema = schema_of([item], key=())
    assert project(item, schema) == ([held], {"/b": item["b"]})
    assert restore(*project(item, schema), schema) == item


# projection


@given(st.data(), item_lists, item_lists, st.integers(1, 4))
@settings(max_examples=60)
def test_restore_of_project_is_the_item_however_spelled_and_typed(
    data: st.DataObject, items: list[Item], known: list[Item], depth: int
) -> None:
    overrides = data.draw(ddb.declared_types([*items, *known]))
    schema = schema_of([*known, *items[:1]], SchemaOptions(depth=depth, overrides=overrides))
    for item in items:
        spelled = data.draw(ddb.respelled(item))
        assert restore(*project(spelled, schema), schema) == spelled


def test_map_without_columns_is_rescued_whole_and_one_with_columns_by_its_members() -> None:
    schema = schema_of([{"m": {"M": {"a": {"S": "x"}}}}])
    unknown: Item = {"u": {"M": {"a": {"S": "x"}}}, "m": {"M": {"b": {"M": {"c": {"NULL": True}}}}}}
    assert project(unknown, schema) == ([None, None], {"/u": unknown["u"], "/m/b": {"M": {"c": {"NULL": True}}}})
    assert project({"m": {"M": {}}}, schema) == ([None, None], {"/m": {"M": {}}})


@pytest.mark.parametrize("tag", ["SS", "NS", "BS"])
def test_empty_set_is_in_its_column_or_is_rescued(tag: str) -> None:
    item: Item = {"a": {tag: []}, "m": {"M": {"b": {tag: []}}}}
    own = schema_of([item])
    assert project(item, own) == ([None, [], []], {})
    assert restore(*project(item, own), own) == item
    other = schema_of([{"a": {"S": "x"}, "m": {"M": {"b": {"BOOL": True}}}}])
    assert project(item, other) == ([None, None, None], {"/a": {tag: []}, "/m/b": {tag: []}})
    assert restore(*project(item, other), other) == item


# evolution


@given(item_lists | contested_lists, item_lists | contested_lists, st.integers(1, 3))
@settings(max_examples=100)
def test_evolve_only_adds(items: list[Item], later: list[Item], depth: int) -> None:
    opted = SchemaOptions(depth=depth)
    current, wanted = schema_of(items, opted), columns_of(later, opted)
    wider = evolve(current, wanted)
    assert wider.columns[: len(current.columns)] == current.columns
    assert len({c.name.lower() for c in wider.columns}) == len(wider.columns)
    taken = [(c.path, tag) for c in wider.columns for tag in c.tags]
    assert len(set(taken)) == len(taken)
    maps = {path for path, tag in taken if tag == "M"}
    assert not any(c.path[:length] in maps for c in wider.columns for length in range(1, len(c.path)))
    added = set(wider.columns[len(current.columns) :])
    assert {(c.path, c.tag, c.type) for c in added} <= {(c.path, c.tag, c.type) for c in wanted}
    assert {c.path[0] for c in wanted} <= {c.path[0] for c in wider.columns}
    assert evolve(wider, wanted) == wider
    for item in [*items, *later]:
        assert restore(*project(item, wider), wider) == item


def test_evolve_keeps_types_that_no_longer_fit() -> None:
    current = schema_of([{"n": {"N": "1"}, "x": {"S": "a"}, "m": {"M": {"a": {"N": "1"}}}}])
    later = columns_of([{"n": {"N": "1.5"}, "x": {"N": "1"}, "m": {"S": "x"}}])
    wider = evolve(current, later)
    assert wider.columns[:4] == current.columns
    assert [(c.name, c.tag, c.role) for c in wider.columns[4:]] == [("m", "S", "plain"), ("x__n", "N", "variant")]
    assert evolve(current, columns_of([{"n": {"N": "1.5"}}])) == current


def test_evolve_keeps_names_with_any_later_items() -> None:
    current = evolve(schema_of([{"a b": {"S": ""}}]), columns_of([{"a_b": {"S": ""}}]))
    names = {c.path: c.name for c in current.columns}
    assert names[("a b",)] == "a_b"
    assert re.fullmatch("a_b_[0-9a-f]{8}", names[("a_b",)])


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from("SNB"), st.integers(0, 200), st.sampled_from("SNB")),
        min_size=1,
        max_size=5,
    )
)
def test_key_attribute_has_one_column_whatever_came_before(batches: list[tuple[bool, str, int, str]]) -> None:
    """A table without items has a key of an unknown type: its column takes the type of the next export, and is no variant."""
    schema = TableSchema(KEY)
    for is_load, key_tag, count, tag in batches:
        text = {"S": "a", "N": "1", "B": "YQ=="}
        inference = inferred([{"pk": {key_tag: text[key_tag]}, "v": {tag: text[tag]}}] * count)
        schema = (
            inference.schema(KEY, schema) if is_load else evolve(schema, inference.columns(KEY, schema, rows=count))
        )
        assert [c.role for c in schema.columns if c.path == KEY] == ["plain"]
        if is_load and count:
            assert schema.columns[0].tag == key_tag
