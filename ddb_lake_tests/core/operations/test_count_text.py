from __future__ import annotations

import pytest

from ddb_lake.core.operations.count_text import count_text


@pytest.mark.parametrize(
    ("number", "one", "many", "text"),
    [
        (0, "item", None, "0 items"),
        (1, "item", None, "1 item"),
        (1234, "item", None, "1,234 items"),
        (1, "entry", "entries", "1 entry"),
        (2, "key has", "keys have", "2 keys have"),
    ],
)
def test_noun_agrees_with_its_number(number: int, one: str, many: str | None, text: str) -> None:
    assert count_text(number, one, many) == text
