"""The component's YAML attributes: the lake's settings, in which any value may be a template.

The settings themselves know nothing of Dagster. From each of their classes a model of its YAML is derived, so that
`dg check yaml` and the loader name the file, the line and the unknown or ill-typed attribute. Templates of the
environment are filled in exactly as the command line does; any other template is Dagster's to resolve.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, TypeVar, get_args

import dagster as dg
from dagster.components.resolved.errors import ResolutionException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from pydantic_core import CoreSchema, core_schema

from ddb_lake.config import Settings, fill_in
from ddb_lake.errors import ConfigError

_S = TypeVar("_S", bound=Settings)
_TEMPLATE = re.compile(r"\{\{")
_OF_THE_ENVIRONMENT = re.compile(r"\{\{\s*env(\.|\()")
_TEMPLATE_SCHEMA = {"type": "string", "pattern": r"\{\{.*\}\}", "description": "A template: {{ env.NAME }}"}


class YamlAttributes(BaseModel):
    """Base of the derived models. Members can be had by their YAML names, as Dagster looks for their places."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    def __getitem__(self, name: str) -> Any:
        fields = type(self).model_fields
        return getattr(self, next((f for f, field in fields.items() if field.alias == name), name))


def yaml_model(settings: type[Settings]) -> type[BaseModel]:
    """The model of a settings class in YAML: the same names, each value of its type or a template.

    Values without a template are also validated by the settings class, so errors of its rules have the
    position in the file.
    """
    return _yaml_model(settings)


@lru_cache
def _yaml_model(settings: type[Settings]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for name, field in settings.model_fields.items():
        default = ... if field.is_required() else None
        described = Field(default, alias=field.alias, description=field.description)
        fields[name] = (_or_template(field.rebuild_annotation()), described)
    rules: Any = model_validator(mode="after")(_rules_of(settings))
    model: type[BaseModel] = create_model(
        f"{settings.__name__}Attributes",
        __base__=YamlAttributes,
        __doc__=settings.__doc__,
        __validators__={"_by_the_rules": rules},
        **fields,
    )
    return model


def yaml_component(derived: type[BaseModel], **settings: Any) -> type[BaseModel]:
    """The YAML model of a component, with the fields of `settings` as what they say and not as Dagster's unions.

    A union with `str` would hide the place of a fault inside such a field.
    """
    fields: dict[str, Any] = {
        name: (_Templated.container(kind), Field(derived.model_fields[name].default, description=kind.__doc__))
        for name, kind in settings.items()
    }
    model: type[BaseModel] = create_model(derived.__name__, __base__=derived, **fields)
    return model


def settings_resolver(settings: type[_S], many: bool = False) -> dg.Resolver:
    """Resolve an attribute to one instance of a settings class (None to None), or with `many` to a tuple of them."""
    model: Any = yaml_model(settings)

    def resolve(context: dg.ResolutionContext, value: Any) -> Any:
        given = _filled(context, value)
        if given is None:
            return None
        if not many:
            return _settings(context, settings, given)
        return tuple(_settings(context.at_path(place), settings, one) for place, one in enumerate(given))

    kind = tuple[model, ...] if many else model
    return dg.Resolver(resolve, model_field_type=kind, inject_before_resolve=False)


def text_resolver() -> dg.Resolver:
    """Resolve an attribute to a text. A text that looks like a number stays one."""
    return dg.Resolver(_filled, model_field_type=str, inject_before_resolve=False)


def automations_resolver() -> dg.Resolver:
    """Resolve an attribute to a truth value or a list of names."""
    return dg.Resolver(_filled, model_field_type=bool | list[str] | str, inject_before_resolve=False)


class _Templated:
    """Marks a type whose place a template may take.

    `wide`: its JSON schema says so. That of a container does not: a fault inside it would be reported as one of the
    container, because nothing in the alternatives fits.
    """

    def __init__(self, wide: bool) -> None:
        self._wide = wide

    @classmethod
    def container(cls, kind: Any) -> Any:
        return Annotated[kind, cls(wide=False)]

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        def keep_template(value: Any, inner: Callable[[Any], Any]) -> Any:
            return value if isinstance(value, str) and _TEMPLATE.search(value) else inner(value)

        def keep_text(value: Any, inner: Callable[[Any], Any]) -> Any:
            return value if isinstance(value, str) else inner(value)

        inner = handler(source)
        dumping = core_schema.wrap_serializer_function_ser_schema(keep_text, schema=inner)
        return core_schema.no_info_wrap_validator_function(keep_template, inner, serialization=dumping)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Callable[[Any], Any]) -> Any:
        given = handler(schema)
        if self._wide:
            return {"anyOf": [given, _TEMPLATE_SCHEMA]}
        members = [member for member in given.get("anyOf", [given]) if member != {"type": "null"}]
        return members[0] if len(members) == 1 else given


def _or_template(annotation: Any) -> Any:
    """The type in YAML: settings classes become their models, and all but texts may be templates."""
    arguments = get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return _Templated.container(yaml_model(annotation))
    inner = [one for one in arguments if isinstance(one, type) and issubclass(one, Settings)]
    if inner and type(None) in arguments:
        return _Templated.container(yaml_model(inner[0]) | None)
    if annotation in (str, Any) or str in arguments:
        return annotation
    return Annotated[annotation, _Templated(wide=True)]


def _rules_of(settings: type[Settings]) -> Callable[[Any], Any]:
    def check(self: BaseModel) -> BaseModel:
        given = _plain(self)
        if not _has_template(given):
            try:
                settings.model_validate(given)
            except ValidationError as error:
                raise ValueError(_faults(error)) from error
        return self

    return check


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(by_alias=True, exclude_unset=True)
    return value


def _has_template(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_template(member) for member in value.values())
    if isinstance(value, list | tuple):
        return any(_has_template(member) for member in value)
    return isinstance(value, str) and bool(_TEMPLATE.search(value))


def _filled(context: dg.ResolutionContext, value: Any) -> Any:
    """`value` as plain data with its templates replaced. A text without one stays, even if it looks like a number."""
    value = _plain(value)
    if isinstance(value, dict):
        return {name: _filled(context.at_path(name), member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(context.at_path(place), member) for place, member in enumerate(value)]
    if not isinstance(value, str) or not _TEMPLATE.search(value):
        return value
    if len(_OF_THE_ENVIRONMENT.findall(value)) < len(_TEMPLATE.findall(value)):
        return context.resolve_value(value, as_type=object)
    try:
        return fill_in(value, os.environ, _place(context))
    except ConfigError as error:
        raise ResolutionException(str(error)) from None


def _settings(context: dg.ResolutionContext, settings: type[_S], given: Any) -> _S:
    if isinstance(given, settings):
        return given
    try:
        return settings.model_validate(given)
    except ValidationError as error:
        raise ResolutionException(f"{_place(context)}: {_faults(error)}") from None


def _place(context: dg.ResolutionContext) -> str:
    """Where in which file `context` is."""
    path = ".".join(map(str, context.path))
    if context.source_position_tree is None:
        return path
    position, _ = context.source_position_tree.lookup_closest_and_path(context.path, None)
    return f"{position}: {path}"


def _faults(error: ValidationError) -> str:
    return "; ".join(
        ": ".join(filter(None, [".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")]))
        for fault in error.errors()
    )
