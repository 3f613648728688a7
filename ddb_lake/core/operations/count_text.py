"""A number with its noun, in the singular or the plural."""

from __future__ import annotations


def count_text(number: int, one: str, many: str | None = None) -> str:
    """`1 item`, `1,234 items`.

    Args:
        number: the count.
        one: what follows the number 1, such as `key has`.
        many: what follows any other number, such as `keys have`; default: `one` with an s.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
