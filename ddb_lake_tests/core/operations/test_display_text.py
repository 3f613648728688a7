"""Text of any origin is shown as it is: it controls no terminal, and is no image, link or HTML in Markdown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ddb_lake.core.operations.display_text import escape_controls, escape_markdown

PIECES = st.lists(
    st.sampled_from(
        [
            *"\\[]()<>!|&#;:@`*_~'\"\n\x1b\u202e /.^-=a1",
            "http://e.example/x.png",
            "www.",
            "![x](y)",
            "<img src=x>",
            "&#91;",
        ]
    )
).map("".join)

ACTIVE = {"image", "link_open", "html_inline", "html_block", "footnote_ref", "definition"}


def kinds(text: str) -> set[str]:
    """The kinds of all tokens of a Markdown text."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    return {token.type for block in tokens for token in (block, *(block.children or ()))}


@given(PIECES)
def test_markdown_of_any_text_has_no_image_link_or_html(text: str) -> None:
    escaped = escape_markdown(text)
    assert kinds(f"- {escaped}") & ACTIVE == set()
    table = MarkdownIt("commonmark").enable("table").parse(f"| a | b |\n| --- | --- |\n| {escaped} | end |")
    cells = [table[place + 1].content for place, token in enumerate(table) if token.type == "td_open"]
    assert cells[1:] == ["end"]


@pytest.mark.parametrize(
    "text", ["http://a.example", "HTTPS://a.example/x", "ftp://a.example", "www.a.example", "a@b.example", "mailto:a"]
)
def test_address_without_brackets_is_no_link(text: str) -> None:
    escaped = escape_markdown(text)
    assert escaped.count("\\") == 1 and escaped.replace("\\", "") == text


@pytest.mark.parametrize(
    "text", ["orders_changes: 3 of 4 keys (75 %)", "s3://bucket/key", "`ddb-lake repair orders` repairs them"]
)
def test_our_own_sentences_stay_as_they_are(text: str) -> None:
    assert escape_markdown(text) == text


@given(st.text() | PIECES)
def test_no_text_controls_a_terminal(text: str) -> None:
    escaped = escape_controls(text)
    assert escaped.isprintable()
    assert escaped == text or not text.isprintable()
