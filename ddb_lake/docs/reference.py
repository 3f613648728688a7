"""Reference pages, generated from the code when the site is built, so they always match the code.

Each function returns one page as Markdown; `PAGES` lists them by their path in the site.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import dagster as dg

from ddb_lake import errors as tree
from ddb_lake.api import LakeTable, OpenLake
from ddb_lake.api import open as open_lake
from ddb_lake.cli.app import COMMANDS, cli
from ddb_lake.cli.command import SHARED_OPTIONS
from ddb_lake.cli.failures import BROKEN_PIPE_STATUS, INTERRUPT_STATUS, exit_status
from ddb_lake.config import COMPONENT_TYPE, DEFAULT_FILES, LakeSettings, TableSettings
from ddb_lake.docs.markdown import command_section, option_row, prose, settings_sections, table
from ddb_lake.infra.config import InfraSettings
from ddb_lake.orchestration.component import DynamoDBLakeComponent
from ddb_lake.pipeline.metrics import LakeMetrics

EVERYTHING = TableSettings.model_validate(
    {
        "name": "orders",
        "key": ["customer", "order_id"],
        "export": {"bucket": "exports", "schedule": "0 3 * * 0"},
        "changes": {"uri": "s3://landing/orders/", "streams": True, "incremental_exports": {}},
        "checks": {"sample": 100, "full": {"schedule": "0 6 * * 0"}},
        "daily_states": {"start": "2026-01-01", "schedule": "30 1 * * *"},
        "aurora": {"host": "db", "database": "shop", "user": "lake", "password_env": "PASSWORD"},
    }
)
"""A table with all settings that add assets or checks."""


def configuration() -> str:
    """Page of all settings of a lake."""
    places = ", ".join(f"`{name}`" for name in DEFAULT_FILES)
    head = (
        "# Configuration\n\n`ddb-lake` and Dagster use one YAML file, with `type: "
        f"{COMPONENT_TYPE}` and the settings below `attributes`. `ddb-lake` reads `--config FILE`, else "
        f"`$DDB_LAKE_CONFIG`, else the first of {places} that exists in the working folder. `{{{{ env.NAME }}}}` and "
        "`{{ env('NAME', 'default') }}` insert environment variables; do not put credentials into the file. "
        "Durations are written `90s`, `5m`, `48h`, `7d`. An unknown setting is an error that names its path.\n\n"
    )
    return head + "\n".join(settings_sections(LakeSettings, "", "The lake"))


def deployment() -> str:
    """Page of all settings of a deployment."""
    head = (
        "# Deployment\n\nThe [CDK stacks](../guides/deploy/overview.md) are created from the settings in `infra.yaml`. "
        "Tables, buckets, prefixes and roles come from the lake's own file.\n\n"
    )
    return head + "\n".join(settings_sections(InfraSettings, "", "The deployment"))


def command_line() -> str:
    """Page of all commands."""
    context = click.Context(cli, info_name="ddb-lake")
    shared = [option_row(option, context) for option in SHARED_OPTIONS]
    head = (
        "# Command line\n\nResults go to stdout, progress and warnings to stderr. `--json` prints one JSON document; "
        "names in it that end in `_us` are microseconds since 1970, UTC. [Exit statuses](errors.md#exit-statuses) "
        "distinguish wrong use from data in doubt. These options may precede or follow the name of any command:\n\n"
    )
    parts = [head, table(("option", ""), shared), "\n"]
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None, name
        parts += command_section(f"ddb-lake {name}", command)
    return "".join(parts)


@cache
def definitions() -> dg.Definitions:
    """Dagster definitions of a table with all features."""
    return dg.build_defs_for_component(DynamoDBLakeComponent(warehouse="lake", tables=(EVERYTHING,)))


def assets() -> str:
    """Page of assets, checks, schedules and sensors."""
    defs = definitions()
    graph = defs.resolve_asset_graph()
    keys = sorted(graph.get_all_asset_keys())
    kept = [(f"`{key.to_user_string()}`", prose(graph.get(key).description or "")) for key in keys]
    specs = [graph.get_check_spec(key) for key in sorted(graph.asset_check_keys)]
    checks = [
        (
            f"`{spec.name}`",
            f"`{spec.asset_key.to_user_string()}`",
            "before the commit" if spec.blocking else "afterwards",
            prose(spec.description or ""),
        )
        for spec in specs
    ]
    timed = [
        (f"`{one.name}`", f"`{one.cron_schedule}`" if isinstance(one, dg.ScheduleDefinition) else "by asset")
        for one in defs.schedules or ()
    ]
    sensors = [(f"`{one.name}`", prose(one.description or "")) for one in defs.sensors or ()]
    return (
        "# Assets and checks\n\nThe assets and checks of a table `orders` with all features configured. A table has only those "
        f"that its settings require.\n\n## Assets\n\n{table(('asset', 'description'), kept)}\n## Checks\n\n"
        "If a check that is evaluated before the commit fails, there is no commit: no result of the run becomes visible.\n\n"
        f"{table(('check', 'asset', 'evaluated', 'meaning'), checks)}\n## Schedules\n\n"
        f"{table(('schedule', 'UTC'), timed)}\n## Sensors\n\n{table(('sensor', 'description'), sensors)}"
    )


def errors() -> str:
    """Page of the error classes and exit statuses."""
    drawn = "\n".join(line[4:] for line in (tree.__doc__ or "").splitlines() if line.startswith("    "))
    rows = [
        (f"`{one.__name__}`", prose(inspect.getdoc(one) or ""), str(exit_status(one("")))) for one in _error_types()
    ]
    return (
        "# Errors\n\nEvery error that ddb_lake raises on purpose states the event, its location, the expected and the actual "
        "state, and the next action. No error contains an item's values. `--debug` shows the traceback.\n\n"
        f"```tree\n{drawn}\n```\n\n{table(('error', 'meaning', 'exit status'), rows)}\n## Exit statuses\n\n"
        + table(
            ("status", "meaning"),
            (
                ("0", "success; records that went to quarantine are a warning"),
                ("1", "a check failed, or data is in doubt: the message states the next action"),
                (str(exit_status(tree.UsageError(""))), "wrong use or configuration"),
                (str(INTERRUPT_STATUS), "interrupted"),
                (str(BROKEN_PIPE_STATUS), "the reader of stdout closed it"),
            ),
        )
        + "\n[A table in another account](../guides/cross-account.md#error-messages-and-their-causes) lists the errors of AWS "
        "with the next step for each.\n"
    )


def _error_types() -> Iterator[type[Exception]]:
    for one in vars(tree).values():
        if isinstance(one, type) and issubclass(one, tree.DdbLakeError):
            yield one


def python() -> str:
    """Page of `ddb_lake.open` and the objects that it returns."""
    parts = ["# Python\n\n`import ddb_lake` is fast: its members are imported on first use.\n\n"]
    parts.append(_documented("ddb_lake.open", open_lake, 2))
    for kind in (OpenLake, LakeTable):
        parts.append(f"## {kind.__name__}\n\n{_paragraphs(kind)}")
        for name, member in vars(kind).items():
            public = not name.startswith("_") and isinstance(member, property | type(open_lake))
            if public:
                parts.append(_documented(name, member, 3))
    parts.append(_component())
    parts.append(
        "## Errors\n\n`ddb_lake` has each class of the [tree of errors](errors.md) by its name, such as `ddb_lake.UsageError`.\n"
    )
    return "".join(parts)


def _component() -> str:
    """The section of the Dagster component: its attributes are the settings of a lake, and its methods can be overridden."""
    kind = DynamoDBLakeComponent
    parts = [
        f"## {kind.__name__}\n\n{_paragraphs(kind)}"
        "Its attributes are the settings of a [lake](configuration.md), and these:\n\n"
    ]
    own = kind.model_fields.keys() - LakeSettings.model_fields.keys()
    rows = [
        (f"`{name}`", prose(kind.model_fields[name].description or "")) for name in kind.model_fields if name in own
    ]
    parts.append(table(("attribute", "meaning"), rows) + "\n")
    for name, member in vars(kind).items():
        if not name.startswith("_") and isinstance(member, type(open_lake)):
            parts.append(_documented(name, member, 3))
    return "".join(parts)


def metrics() -> str:
    """Page of the metrics."""
    rows = [
        (f"`{family.name}`", family.type, prose(family.documentation)) for family in LakeMetrics().registry.collect()
    ]
    return (
        "# Metrics\n\n`ddb-lake follow --metrics :9464` serves these for Prometheus; `sync` and `status` write them by `--metrics-file`,"
        " or print them for CloudWatch by `--emf` ([monitoring](../guides/follow.md#metrics)). Each has the label `table`. A counter's"
        " name ends with `_total` in Prometheus. No metric or label has a value of an item.\n\n"
        f"{table(('metric', 'kind', 'meaning'), rows)}"
    )


def glossary() -> str:
    """Page of the terms, from the architecture page, which is their home."""
    text = (Path(__file__).parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    return f"# Glossary\n{text.partition('## Glossary')[2].partition('## ')[0]}"


def _documented(name: str, member: Any, rank: int) -> str:
    given = "" if isinstance(member, property) else str(inspect.signature(member))
    shown = given.replace("(self, ", "(").replace("(self)", "()").replace("'", "")
    return f"{'#' * rank} {name}\n\n```signature\n{name}{shown}\n```\n\n{_paragraphs(member)}"


def _paragraphs(member: Any) -> str:
    parts = re.sub(r"^Args:\n|^Raises:\n    ", "", inspect.getdoc(member) or "", flags=re.MULTILINE).split("\n\n")
    named = [re.sub(r"^    (\w+): ", r"`\1`: ", part) for part in parts]
    return "".join(f"{prose(part)}\n\n" for part in named)


PAGES: dict[str, Callable[[], str]] = {
    "reference/configuration.md": configuration,
    "reference/command-line.md": command_line,
    "reference/assets.md": assets,
    "reference/errors.md": errors,
    "reference/python.md": python,
    "reference/deployment.md": deployment,
    "reference/metrics.md": metrics,
    "reference/glossary.md": glossary,
}
"""The function that generates each page, by the page's path in the site."""
