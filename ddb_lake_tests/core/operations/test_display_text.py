"""Text of any origin is shown as it is: it controls no terminal, and is no image, link or HTML in Markdown."""

from __future__ import annotations

import re

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


LINKED = re.compile(r"https?://|ftp://|www\.|mailto:|xmpp:|[-.+\w]@[-\w]", re.IGNORECASE)
"""What Dagster's UI makes links of in the text that remains when Markdown is parsed.

https://github.com/syntax-tree/mdast-util-gfm-autolink-literal
"""


def rendered(markdown: str) -> str:
    """The text of a paragraph of Markdown, without its backslashes."""
    return "".join(
        token.content for block in MarkdownIt("commonmark").parse(markdown) for token in block.children or ()
    )


@given(PIECES | st.sampled_from(["xhttp://a", "awww.b", "a.b@c", "me@a.example", "x@y@z", "http:///", "MAILTO:a"]))
def test_text_that_is_rendered_has_no_address_that_becomes_a_link(text: str) -> None:
    assert LINKED.search(rendered(escape_markdown(text))) is None


@pytest.mark.parametrize(
    "text", ["http://a.example", "HTTPS://a.example/x", "ftp://a.example", "www.a.example", "a@b.example", "mailto:a"]
)
def test_one_character_of_an_address_is_an_escape(text: str) -> None:
    escaped = escape_markdown(text)
    assert escaped != text and escaped.encode().decode("unicode_escape") == text


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
