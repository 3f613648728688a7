"""Settings and commands as Markdown: pure functions from pydantic models and click commands to text."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ddb_lake.cli.command import SHARED_OPTIONS

_CODE = re.compile(r"(`[^`]*`)")


def prose(text: str) -> str:
    """Plain text as Markdown for a paragraph or a cell. Text outside backticks is escaped."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([\\<>*_|\[\]])", r"\\\1", part) for part in parts)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; the cells must be Markdown."""
    lines = [list(head), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings models that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models(part)


def settings_sections(model: type[BaseModel], path: str, title: str) -> Iterator[str]:
    """Yield a section with a table of a model's settings, then the sections of its nested models."""
    below: list[tuple[type[BaseModel], str]] = []
    rows = []
    for name, field in model.model_fields.items():
        own = f"{path}{field.alias or name}"
        inner = next(models(field.annotation), None)
        if inner is not None:
            many = "[]" if typing.get_origin(field.annotation) is tuple else ""
            many = ".<name>" if typing.get_origin(field.annotation) is dict else many
            below.append((inner, f"{own}{many}"))
        rows.append((f"`{field.alias or name}`", _values(field, inner), _default(field), _about(field, inner)))
    yield f"## {title}\n\n{prose(_first(model))}\n\n{table(('setting', 'values', 'default', ''), rows)}"
    for inner, place in below:
        yield from settings_sections(inner, f"{place}.", f"`{place}`")


def undescribed(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Yield the settings of a model and its nested models that have no description. Models have a docstring instead."""
    for name, field in model.model_fields.items():
        inner = next(models(field.annotation), None)
        if inner is not None:
            yield from undescribed(inner, f"{path}{name}.")
        elif not field.description:
            yield f"{path}{name}"


def _about(field: FieldInfo, inner: type[BaseModel] | None) -> str:
    text = field.description or (_first(inner) if inner is not None else "")
    return prose(text) + (" See below." if inner is not None else "")


def _first(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().partition("\n\n")[0]


def _values(field: FieldInfo, inner: type[BaseModel] | None) -> str:
    choices = list(_choices(field.annotation))
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    if inner is not None:
        origin = typing.get_origin(field.annotation)
        return "list" if origin is tuple else "map by name" if origin is dict else "map"
    return _kind(field.annotation)


def _choices(annotation: Any) -> Iterator[str]:
    if typing.get_origin(annotation) is Literal:
        yield from typing.get_args(annotation)
    for part in typing.get_args(annotation):
        yield from _choices(part)


_KINDS = {"str": "text", "int": "integer", "float": "number", "bool": "`true`, `false`", "Path": "file"}


def _kind(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if origin is tuple:
        return "list"
    if origin is dict:
        return "map"
    parts = [part for part in typing.get_args(annotation) if part is not type(None)]
    if parts:
        return " or ".join(_kind(part) for part in parts)
    return _KINDS.get(getattr(annotation, "__name__", ""), "any")


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "required"
    if default is None or isinstance(default, BaseModel) or default in ((), {}):
        return ""
    return f"`{default}`" if isinstance(default, str) and default else f"`{json.dumps(default, default=str)}`"


def command_section(path: str, command: click.Command) -> Iterator[str]:
    """Yield a command's usage, options and examples; for a group, also those of its subcommands."""
    context = click.Context(command, info_name=path)
    own = [one for one in command.params if one not in SHARED_OPTIONS and not getattr(one, "hidden", False)]
    rows = [option_row(one, context) for one in own if isinstance(one, click.Option)]
    examples = "\n".join(getattr(command, "examples", ()))
    yield f"## {path}\n\n"
    yield "".join(f"{prose(part)}\n\n" for part in (command.help or "").replace("\b", "").split("\n\n"))
    yield f"```usage\n{' '.join([path, *command.collect_usage_pieces(context)])}\n```\n\n"
    if rows:
        yield table(("option", ""), rows) + "\n"
    if examples:
        yield f"```sh\n{examples}\n```\n\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            assert member is not None, name
            yield from command_section(f"{path} {name}", member)


def option_row(option: click.Option, context: click.Context) -> tuple[str, str]:
    """Return an option with the name of its value, and its help text."""
    named, about = option.get_help_record(context) or (", ".join(option.opts), "")
    return f"`{named}`", prose(about)
