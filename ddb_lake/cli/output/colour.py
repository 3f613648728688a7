"""Colour, where somebody sees it: click leaves it out where there is no terminal, this where nobody wants it."""

from __future__ import annotations

import os
from typing import Any

import click


def styled(text: str, **style: Any) -> str:
    """`text` as `click.style` has it; plain if NO_COLOR is set (https://no-color.org) or the terminal knows no colours."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return click.style(text, **style)
