"""The names that are derived from a table's name: Iceberg tables, relations of queries, folders of the warehouse. Pure.

Each of them is defined only here, so that the configuration can reject names that collide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

CHANGES = "_changes"
OBJECTS = "_objects"
QUARANTINE = "_quarantine"
ERASURES = "_erasures"
DAILY = "_daily"

ICEBERG_SUFFIXES = ("", CHANGES, OBJECTS, QUARANTINE, ERASURES)
"""Suffixes of a table's Iceberg tables: current, changelog, ledger, quarantine, and erasures if a key was erased."""

LONGEST_TABLE = 255
"""Glue, and file systems for the folder of a table, take names of 255 bytes."""

LONGEST_NAME = LONGEST_TABLE - max(map(len, ICEBERG_SUFFIXES))
"""The longest name of a table of the lake: each of its Iceberg tables has a name that can be used."""

DAYS_FOLDER = "daily"
REPAIRS_FOLDER = "repairs"
REPORTS_FOLDER = "reports"
RESTORES_FOLDER = "restores"
LANDING_FOLDER = "landing"
REBUILD_FOLDER = "rebuild"
ERASURES_FOLDER = "erasures"

WAREHOUSE_FOLDERS = (
    DAYS_FOLDER,
    REPAIRS_FOLDER,
    REPORTS_FOLDER,
    RESTORES_FOLDER,
    LANDING_FOLDER,
    REBUILD_FOLDER,
    ERASURES_FOLDER,
)
"""Folders of the warehouse beside the one of the Iceberg namespace; each has a folder per table."""

CATALOG_KINDS = ("sql", "glue", "rest", "s3tables")
"""Kinds of catalogs whose rules for names differ; `s3tables` is the REST catalog of Amazon S3 Tables."""

_GLUE_UNSAFE = re.compile(r"[^a-z0-9_]")
_LONGEST_IN_CATALOG = 255
"""Glue and S3 Tables take 255 characters, and the columns of SQL catalogs have 255."""

_S3_TABLES_NAME = re.compile(r"[a-z0-9]([a-z0-9_]{0,253}[a-z0-9])?")
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-tables-buckets-naming.html"""


def glue_name(name: str) -> str:
    """A table's name in Glue, Athena and dbt."""
    return _GLUE_UNSAFE.sub("_", name.lower())


def entity_table(name: str, entity: str) -> str:
    """The name of the Iceberg table of one entity of a table."""
    return f"{name}_{entity}"


def derived_names(name: str, daily: bool, entities: Iterable[str] = ()) -> tuple[str, ...]:
    """The names by which a table's rows are read: of its Iceberg tables, those of its entities included, and, with `daily`, of
    its kept days."""
    suffixes = (*ICEBERG_SUFFIXES, *((DAILY,) if daily else ()))
    return (*(name + suffix for suffix in suffixes), *(entity_table(name, entity) for entity in entities))


def name_collision(tables: Iterable[tuple[str, bool, Sequence[str]]]) -> str | None:
    """The reason why two of these tables (name, whether its days are kept, its entities) cannot be in one lake; None if all can.

    Names are compared in Glue's spelling. Case-insensitive file systems, SQL and dbt distinguish no more names than Glue.
    """
    tables = tuple(tables)
    names = [name for name, _, _ in tables]
    owners: dict[str, tuple[str, str]] = {}
    for name, daily, entities in tables:
        for derived in derived_names(name, daily, entities):
            first, meant = owners.setdefault(glue_name(derived), (name, derived))
            if (first, meant) != (name, derived):
                return (
                    f"tables {first!r} and {name!r} collide: {meant!r} of the first and {derived!r} of the second have one"
                    f" name, {glue_name(derived)!r}, in catalogs and queries; give one of them another `name`, and set its"
                    " `source.table` to the DynamoDB table's name"
                )
        if names.count(name) > 1:
            return f"two tables have the same name, {name!r}"
    return None


def catalog_name_fault(kind: str, namespace: str, tables: Iterable[str]) -> str | None:
    """The reason why a catalog does not accept the names of a lake; None if it accepts them.

    Args:
        kind: one of `CATALOG_KINDS`.
        namespace: the namespace, which is never spelled in another way.
        tables: the names of the configured tables.
    """
    if len(namespace) > _LONGEST_IN_CATALOG:
        return f"`catalog.namespace` has {len(namespace)} characters, and at most {_LONGEST_IN_CATALOG} are possible"
    if kind == "glue" and (namespace != namespace.lower() or "." in namespace):
        # https://docs.aws.amazon.com/athena/latest/ug/tables-databases-columns-names.html
        spelled = glue_name(namespace)
        return f"Glue needs a `catalog.namespace` in lower case without dots; {namespace!r} could be {spelled!r}"
    if kind != "s3tables":
        return None
    rule = "lower-case letters, digits and '_', with a letter or digit at both ends"
    if not _S3_TABLES_NAME.fullmatch(namespace) or namespace.startswith("aws"):
        return f"S3 Tables needs a `catalog.namespace` of {rule}, which does not begin with 'aws'; it is {namespace!r}"
    for name in tables:
        if not _S3_TABLES_NAME.fullmatch(glue_name(name)):
            return (
                f"table {name!r}: S3 Tables takes names of {rule}; give the table another `name`, and set its"
                " `source.table` to the DynamoDB table's name"
            )
    return None


def namespace_fault(namespace: str) -> str | None:
    """The reason why a namespace cannot be the folder of the Iceberg tables; None if it can."""
    if not namespace.strip(". ") or re.search(r"[/\\\x00-\x1f]", namespace) or namespace != namespace.strip(". "):
        return "a namespace is the name of a folder: no '/', no dots or spaces at its ends"
    if namespace.lower() in WAREHOUSE_FOLDERS:
        return f"the lake keeps other files in the folder {namespace.lower()!r} of the warehouse; choose another name"
    return None
