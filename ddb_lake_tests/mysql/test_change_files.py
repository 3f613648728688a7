from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.errors import DatabaseError, TransientError
from ddb_lake.mysql.change_files import ChangeLoader, Replayed
from ddb_lake.mysql.csv_rows import write_row
from ddb_lake_tests.support.effort import SHARED_FIXTURE, examples
from ddb_lake_tests.support.mariadb import Dying, MariaDb
from ddb_lake_tests.support.mysql_pages import COLUMNS, KEY, Pages, Row, put, remove

EXECUTED = examples(6, 25, suppress=SHARED_FIXTURE)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def clear(pages: Pages) -> None:
    for table in ("Pages", "Pages_tombstones", "ddb_lake_ledger"):
        pages.database.execute(f"DELETE FROM {table}")


@EXECUTED
@given(page=TEXT, at=TEXT, body=st.none() | st.binary(max_size=40), hits=st.none() | st.integers(-(2**31), 2**31 - 1))
def test_values_arrive_as_they_are(pages: Pages, page: str, at: str, body: bytes | None, hits: int | None) -> None:
    loader = pages.loader()
    clear(pages)
    text = None if body is None else base64.b64encode(body).decode()
    row: Row = ["INSERT", "9" * 40, page, at, None if hits is None else str(hits), text, "-12345.60", None]

    loader.load("s3://landing/one", "v1", pages.file(row))

    key = b"".join(b"%d:%s" % (len(part.encode()), part.encode()) for part in (page, at))
    assert pages.rows("page, at, hits, body, cost, _seq, _key, ours") == [
        (page, at, hits, body, Decimal("-12345.60"), Decimal("9" * 40), hashlib.sha256(key).digest(), 7)
    ]


@dataclass(frozen=True)
class Change:
    page: str
    seq: int
    hits: int | None

    @property
    def row(self) -> Row:
        return remove(self.seq, self.page) if self.hits is None else put(self.seq, self.page, hits=str(self.hits))


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Change], list[list[Change]]]:
    """Changes of a few keys, and files in which each comes at least once, in any order."""
    seqs = draw(st.lists(st.integers(0, 10**39), min_size=1, max_size=12, unique=True))
    page = st.sampled_from(["a", "A", "a ", "b"])
    changes = [Change(draw(page), seq, draw(st.none() | st.integers(0, 99))) for seq in seqs]
    landed = draw(st.permutations(changes + draw(st.lists(st.sampled_from(changes), max_size=6))))
    cuts = sorted(draw(st.lists(st.integers(0, len(landed)), max_size=3)))
    return changes, [landed[i:j] for i, j in zip([0, *cuts], [*cuts, len(landed)], strict=True)]


@EXECUTED
@given(histories())
def test_any_order_split_and_repetition_gives_the_latest_of_each_key(
    pages: Pages, history: tuple[list[Change], list[list[Change]]]
) -> None:
    changes, files = history
    loader = pages.loader()
    clear(pages)

    for number, file in enumerate(files):
        loader.load(f"s3://landing/{number}", "v1", pages.file(*(change.row for change in file)))

    latest = {change.page: change for change in sorted(changes, key=lambda change: change.seq)}
    expected = {(c.page, c.hits, Decimal(c.seq)) for c in latest.values() if c.hits is not None}
    assert set(pages.rows("page, hits, _seq")) == expected


def test_keys_that_the_collation_calls_equal_are_different_items(pages: Pages) -> None:
    pages.load(put(1, "Ä"), put(2, "ä"), put(3, "a"), put(4, "a "), put(5, "ab", "c"), put(6, "a", "bc"))

    assert len(pages.rows()) == 6


def test_late_record_does_not_resurrect_a_removed_key(pages: Pages) -> None:
    pages.load(put(1), put(2, "q"))
    pages.load(remove(5))
    pages.load(put(3, hits="9"))

    assert [page for page, *_ in pages.rows()] == ["q"]
    pages.load(put(6, hits="10"))
    assert ("p", "1", 10, Decimal(6)) in pages.rows()


def test_file_is_loaded_once_and_its_new_version_again(pages: Pages) -> None:
    first = pages.load(put(1), name="s3://landing/x", version="etag-1")
    again = pages.load(put(9, hits="9"), name="s3://landing/x", version="etag-1")
    assert (first.records, first.already_loaded, again.records, again.already_loaded) == (1, False, 1, True)
    assert pages.rows() == [("p", "1", 1, Decimal(1))]

    rewritten = pages.load(put(2, hits="2"), name="s3://landing/x", version="etag-2")

    assert not rewritten.already_loaded
    assert pages.rows() == [("p", "1", 2, Decimal(2))]
    assert pages.count("ddb_lake_ledger") == 2


def test_empty_file_is_loaded_and_noted(pages: Pages) -> None:
    assert pages.load(raw=b"").records == 0
    assert pages.count("ddb_lake_ledger") == 1


GOOD = put(9)
SECRET = "4711-secret"
BAD: dict[str, tuple[Row | bytes, str]] = {
    "number": (put(9, "x", "1", SECRET), "record 2, column hits"),
    "empty number": (put(9, "x", "1", ""), "record 2, column hits"),
    "out of range": (put(9, "x", "1", "3000000000"), "record 2, column hits"),
    "rounded": (put(9, "x", "1", "1", None, "1.005"), "record 2, column cost"),
    "too long": (put(9, SECRET * 20), "record 2, column page"),
    "time": (put(9, "x", "1", "1", None, None, "2024-02-30 00:00:00"), "record 2, column seen"),
    "time zone": (put(9, "x", "1", "1", None, None, "2024-02-03T00:00:00Z"), "record 2, column seen"),
    "base64": (put(9, "x", "1", "1", SECRET + "%"), "record 2: a binary column's text is not base64"),
    "no key": (put(9, None), "record 2: a column of the key is NULL"),
    "no sequence": (["MODIFY", None, "x", "1", None, None, None, None], "record 2: it has no _seq"),
    "sequence": (["MODIFY", SECRET, "x", "1", None, None, None, None], "record 2, column _seq"),
    "event": ([SECRET[:9], "1", "x", "1", None, None, None, None], "record 2: its first field is none of"),
    "long event": ([SECRET * 3, "1", "x", "1", None, None, None, None], "record 2, column ddb_lake:event"),
    "too few": (b'"MODIFY","9","x","1","1"\n', "record 2: error 1261"),
    "too many": (b'"MODIFY","9","x","1","1",NULL,NULL,NULL,"4711-secret"\n', "record 2: error 1262"),
    "open quote": (b'"MODIFY","9","x","1","4711-secret\n', "record 2, column hits"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_record_is_rejected_with_its_reason_and_the_others_are_applied(pages: Pages, fault: str) -> None:
    bad, place = BAD[fault]
    good = b'"MODIFY","9","p","1","2",NULL,NULL,NULL\n'
    other = b'"MODIFY","9","q","1","3",NULL,NULL,NULL\n'
    content = good + (bad if isinstance(bad, bytes) else write_row(bad).encode())
    content = other + content if fault == "open quote" else content + other

    loaded = pages.load(raw=content, name="s3://landing/bad")

    assert (loaded.records, loaded.rejected) == (3, 1)
    assert {(page, hits) for page, _, hits, _ in pages.rows()} == {("p", 2), ("q", 3)}
    ((name, record, fields, reason),) = pages.database.rows("SELECT object, record, fields, reason FROM Pages_rejected")
    assert (name, record) == ("s3://landing/bad", 3 if fault == "open quote" else 2)
    assert SECRET not in reason and isinstance(json.loads(fields), list)
    if not isinstance(bad, bytes):
        assert json.loads(fields) == bad
    column = place.partition(", column ")[2]
    assert not column or fault == "open quote" or f"column {column}" in reason, reason
    again = pages.load(raw=content, name="s3://landing/bad")
    assert again.already_loaded and pages.count("Pages_rejected") == 1


def test_records_of_a_large_file_that_do_not_fit_are_found_and_replayed_after_a_change(pages: Pages) -> None:
    rows = [put(5, f"k{number}", hits=str(number)) for number in range(305)]
    rows[17] = put(5, "long" * 60, hits="17")
    rows[200] = put(5, "k200", hits="99999999999")
    rows.append(remove(6, "k3"))
    assert pages.load(*rows).rejected == 2
    assert len(pages.rows()) == 302
    assert pages.load(put(9, "k200", hits="1")).rejected == 0, "later files are loaded"
    assert pages.loader().replay() == Replayed(0, 2)

    pages.database.execute("ALTER TABLE Pages MODIFY page VARCHAR(300), MODIFY hits BIGINT")

    assert pages.loader().replay() == Replayed(2, 0)
    assert pages.loader().replay() == Replayed(0, 0)
    found = {page: (hits, seq) for page, _, hits, seq in pages.rows()}
    assert len(found) == 304 and found["long" * 60] == (17, 5)
    assert found["k200"] == (1, 9), "a later record of its key was loaded meanwhile"
    assert pages.database.value("SELECT COUNT(*) FROM Pages_rejected WHERE replayed_at IS NOT NULL") == 2


def test_rejected_image_does_not_resurrect_a_key_that_was_removed_meanwhile(pages: Pages) -> None:
    pages.load(put(2, "p", hits="99999999999"))
    pages.load(remove(3))
    pages.database.execute("ALTER TABLE Pages MODIFY hits BIGINT")
    assert pages.loader().replay() == Replayed(1, 0)
    assert pages.rows() == []


REFUSED: dict[str, tuple[str, str | None, str | None]] = {
    "not null": ("INT NOT NULL", "1", None),
    "unsigned": ("INT UNSIGNED", "1", "-1"),
    "tiny": ("TINYINT", "1", "128"),
    "bit": ("BIT(1)", None, "abc"),
    "text": ("TINYTEXT", "x", "x" * 256),
    "charset": ("VARCHAR(20) CHARACTER SET latin1", "é", "日本"),
    "utf8mb3": ("VARCHAR(20) CHARACTER SET utf8mb3", "日", "🦆"),
    "enum": ("ENUM('a','b')", "a", "c"),
    "set": ("SET('a','b')", "a,b", "c"),
    "year": ("YEAR", "2024", "1800"),
    "date": ("DATE", "2024-02-29", "2023-02-29"),
    "time": ("TIME", "10:00:00", "10:99:00"),
    "json": ("JSON CHECK (JSON_VALID(v))", "[1]", "[1"),
    "check": ("INT CHECK (v > 0)", "1", "0"),
    "double": ("DOUBLE", "1.5", "1e999"),
    "decimal": ("DECIMAL(5,2)", "123.45", "1234.5"),
    "unique": ("INT UNIQUE", "1", "7"),
    "foreign key": ("INT, FOREIGN KEY (v) REFERENCES Known (v)", "7", "8"),
    "partial": ("INT, n INT GENERATED ALWAYS AS (v * 2147483647) STORED", "1", "2"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_every_kind_of_refusal_costs_the_record_alone(pages: Pages, kind: str) -> None:
    definition, good, bad = REFUSED[kind]
    pages.database.execute("CREATE TABLE Known (v INT PRIMARY KEY)")
    pages.database.execute("INSERT INTO Known VALUES (7)")
    key = "_key BINARY(32) NOT NULL PRIMARY KEY, _seq DECIMAL(40,0) NOT NULL, id VARCHAR(9)"
    pages.database.execute(f"CREATE TABLE T ({key}, v {definition}) CHARACTER SET utf8mb4")
    loader = ChangeLoader(pages.database, "T", ["id", "v"], ["id"])
    loader.load("one", "v", pages.file(["INSERT", "1", "first", "7" if kind in ("unique", "foreign key") else good]))

    loaded = loader.load(
        "two", "v", pages.file(["INSERT", "2", "bad", bad], ["INSERT", "2", "a", good if kind != "unique" else "3"])
    )

    assert loaded.rejected == 1
    assert {row[0] for row in pages.database.rows("SELECT id FROM T")} == {"first", "a"}
    ((reason, found),) = pages.database.rows("SELECT reason, _key FROM T_rejected")
    assert "error" in reason and found == hashlib.sha256(b"3:bad").digest()


def test_unique_index_never_puts_one_items_values_into_anothers_row(pages: Pages) -> None:
    pages.database.execute("ALTER TABLE Pages ADD UNIQUE (hits)")
    pages.load(put(1, "a", hits="1"), put(1, "b", hits="2"))
    assert pages.load(put(2, "b", hits="1"), put(3, "c", hits="3"), put(4, "c", hits="4")).rejected == 1
    assert {(page, hits) for page, _, hits, _ in pages.rows()} == {("a", 1), ("b", 2), ("c", 4)}
    pages.load(remove(5, "a"))
    assert pages.loader().replay() == Replayed(1, 0)
    assert {(page, hits) for page, _, hits, _ in pages.rows()} == {("b", 1), ("c", 4)}


def test_error_that_is_not_about_a_record_stops_the_file(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = pages.loader()
    monkeypatch.setattr("ddb_lake.mysql.statements.insert_tombstones", lambda *_: "DELETE FROM nowhere")
    with pytest.raises(DatabaseError):
        loader.load("s3://landing/x", "v1", pages.file(put(1)))
    assert pages.count("Pages_rejected") == 0 and pages.count("ddb_lake_ledger") == 0


def test_connection_lost_at_any_statement_leaves_all_or_nothing(pages: Pages, mariadb: MariaDb) -> None:
    pages.load(put(1), put(1, "gone"))
    before = pages.rows()
    rows = [put(2, hits="2"), remove(2, "gone")]
    after = [("p", "1", 2, Decimal(2))]
    died = 0
    for statements in range(100):
        connection = mariadb.open(pages.server)
        loader = ChangeLoader(connection, "Pages", COLUMNS, KEY)
        loader.database = Dying(connection, statements)
        try:
            loader.load("s3://landing/crash", "v1", pages.file(*rows))
        except TransientError:
            died += 1
            assert pages.rows() in (before, after)
            assert (pages.rows() == after) == (pages.count("ddb_lake_ledger") == 2)
        else:
            break
        finally:
            connection.close()

    assert died > 8
    assert pages.rows() == after
    assert pages.count("ddb_lake_ledger") == 2


def test_loaders_at_once_converge(pages: Pages, mariadb: MariaDb) -> None:
    pages.loader()
    rows = [
        put(10 * n + k, f"k{k}", hits=str(n)) if (n + k) % 3 else remove(10 * n + k, f"k{k}")
        for n in range(12)
        for k in range(4)
    ]
    files = [pages.file(*rows[start::6]) for start in range(6)]
    failures: list[BaseException] = []

    def work(numbers: list[int]) -> None:
        database = mariadb.open(pages.server)
        try:
            loader = ChangeLoader(database, "Pages", COLUMNS, KEY)
            for number in numbers:
                loader.load(f"s3://landing/{number}", "v1", files[number])
        except BaseException as error:
            failures.append(error)
        finally:
            database.close()

    threads = [
        threading.Thread(target=work, args=(order,))
        for order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 0, 4, 1, 5, 2])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert pages.count("ddb_lake_ledger") == 6
    expected = {f"k{k}": 11 for k in range(4) if (11 + k) % 3}
    assert {page: hits for page, _, hits, _ in pages.rows()} == expected


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ("page VARCHAR(9) PRIMARY KEY, at INT", "columns that the table lacks"),
        (
            "_key VARBINARY(99) PRIMARY KEY, _seq DECIMAL(40,0), page INT, at INT, hits INT, body INT, cost INT, seen INT",
            "expected a column _key BINARY(32)",
        ),
        ("", "columns that the table lacks"),
    ],
)
def test_table_that_cannot_be_loaded_into_is_refused(pages: Pages, definition: str, said: str) -> None:
    if definition:
        pages.database.execute(f"CREATE TABLE Other ({definition})")

    with pytest.raises(DatabaseError) as raised:
        ChangeLoader(pages.database, "Other", COLUMNS, KEY)

    assert said in str(raised.value)
