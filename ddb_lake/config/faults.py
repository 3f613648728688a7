"""Faults of a configuration file with their lines, the settings, and the names that were probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

SettingPath = tuple[str | int, ...]
"""The names and the numbers (from 0) that lead to a setting."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Where each setting of a YAML document is: its line (from 1) by its path."""

    by_path: Mapping[SettingPath, int]

    @classmethod
    def of(cls, text: str, below: SettingPath = ()) -> Lines:
        """The lines of a valid YAML document. `below`: the path of the mapping whose settings are meant."""
        found: dict[SettingPath, int] = {}
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _collect(root, (), found, ())
        return cls({path[len(below) :]: line for path, line in found.items() if path[: len(below)] == below})

    def line(self, path: SettingPath) -> int | None:
        """The line of a setting; of a missing one, that of the setting which should contain it."""
        while path not in self.by_path and path:
            path = path[:-1]
        return self.by_path.get(path)


def _collect(node: yaml.Node, path: SettingPath, found: dict[SettingPath, int], above: tuple[yaml.Node, ...]) -> None:
    found.setdefault(path, node.start_mark.line + 1)
    if any(node is one for one in above):  # an alias may name a node that contains it
        return
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            found.setdefault(inner, key.start_mark.line + 1)
            _collect(value, inner, found, (*above, node))
    elif isinstance(node, yaml.SequenceNode):
        for number, member in enumerate(node.value):
            _collect(member, (*path, number), found, (*above, node))


def faults_text(error: ValidationError, model: type[BaseModel], whole: str, lines: Lines | None = None) -> str:
    """The faults of one document, in the order of their lines if those are known. `whole`: what the document is."""
    placed = [
        (lines.line(fault["loc"]) if lines else None, _fault_text(fault, model, whole)) for fault in error.errors()
    ]
    placed.sort(key=lambda one: one[0] or 0)
    texts = [text if line is None else f"line {line}: {text}" for line, text in placed]
    return "; ".join(texts)


def _fault_text(fault: ErrorDetails, model: type[BaseModel], whole: str) -> str:
    path = fault["loc"]
    if fault["type"] == "extra_forbidden":
        above = ".".join(map(str, path[:-1]))
        message = f"unknown setting {path[-1]!r}{_meant(str(path[-1]), _names(model, path[:-1]))}"
        return f"{above}: {message}" if above else message
    return f"{'.'.join(map(str, path)) or whole}: {fault['msg'].removeprefix('Value error, ')}"


def _meant(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (the settings here: {', '.join(sorted(known))})" if known else ""


def _names(model: type[BaseModel], path: SettingPath) -> list[str]:
    """The names of the settings that may be at a path."""
    annotation: Any = model
    for step in path:
        if isinstance(step, int) or annotation is None:
            continue
        if get_origin(annotation) is dict:  # the step is a name of the user's
            annotation = get_args(annotation)[1]
            continue
        settings = _model_in(annotation)
        fields = {} if settings is None else settings.model_fields
        annotation = next((f.annotation for name, f in fields.items() if step in (name, f.alias)), None)
    settings = _model_in(annotation)
    return [] if settings is None else [field.alias or name for name, field in settings.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings class in an annotation, such as that of an optional one or of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, tuple, list, dict) or get_args(annotation):
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    return None
