"""The pages of the reference, made from the code when the site is built, so that they cannot go stale."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
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
from ddb_lake.docs.tables import command_section, option_row, prose, settings_sections, table
from ddb_lake.infra.config import InfraSettings
from ddb_lake.orchestration.component import DynamoDBLakeComponent

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
"""A table with everything that brings assets and checks."""


def configuration() -> str:
    """Every setting of a lake."""
    places = ", ".join(f"`{name}`" for name in DEFAULT_FILES)
    head = (
        "# Configuration\n\nOne YAML file, for `ddb-lake` and for Dagster: `type: "
        f"{COMPONENT_TYPE}`, and the settings below `attributes`. `ddb-lake` takes `--config FILE`, else "
        f"`$DDB_LAKE_CONFIG`, else the first of {places} below the working folder. `{{{{ env.NAME }}}}` and "
        "`{{ env('NAME', 'default') }}` take values from the environment; credentials never stand in the file. "
        "Durations are `90s`, `5m`, `48h`, `7d`. Unknown names are errors, told with their place.\n\n"
    )
    return head + "\n".join(settings_sections(LakeSettings, "", "The lake"))


def deployment() -> str:
    """Every setting of a deployment."""
    head = (
        "# Deployment\n\nThe settings of `infra.yaml`, from which the [CDK stacks](../guides/deploy/overview.md) are "
        "made. Tables, buckets, prefixes and roles come from the lake's own file.\n\n"
    )
    return head + "\n".join(settings_sections(InfraSettings, "", "The deployment"))


def command_line() -> str:
    """Every command."""
    context = click.Context(cli, info_name="ddb-lake")
    shared = [option_row(option, context) for option in SHARED_OPTIONS]
    head = (
        "# Command line\n\nResults go to stdout, progress and warnings to stderr. `--json` prints one JSON document; "
        "names in it that end in `_us` are microseconds since 1970, UTC. [Exit statuses](errors.md#exit-statuses) tell "
        "wrong use from data in doubt. These options stand before or after the name of any command:\n\n"
    )
    parts = [head, table(("option", ""), shared), "\n"]
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None, name
        parts += command_section(f"ddb-lake {name}", command)
    return "".join(parts)


@cache
def definitions() -> dg.Definitions:
    """What Dagster is told of a table with everything."""
    return dg.build_defs_for_component(DynamoDBLakeComponent(warehouse="lake", tables=(EVERYTHING,)))


def assets() -> str:
    """Assets, checks, schedules and sensors."""
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
        "# Assets and checks\n\nOf a table `orders` with everything configured; a table has those that its settings ask "
        f"for.\n\n## Assets\n\n{table(('asset', 'what it is'), kept)}\n## Checks\n\n"
        "A check that is evaluated before the commit stops it: nothing of the run becomes visible.\n\n"
        f"{table(('check', 'of', 'evaluated', 'what it says'), checks)}\n## Schedules\n\n"
        f"{table(('schedule', 'UTC'), timed)}\n## Sensors\n\n{table(('sensor', 'what it does'), sensors)}"
    )


def errors() -> str:
    """The tree of errors, and the exit statuses."""
    drawn = "\n".join(line[4:] for line in (tree.__doc__ or "").splitlines() if line.startswith("    "))
    rows = [
        (f"`{one.__name__}`", prose(inspect.getdoc(one) or ""), str(exit_status(one("")))) for one in _error_types()
    ]
    return (
        "# Errors\n\nEvery error that is raised on purpose says what happened, where, what was expected against what was "
        "found, and what to do next. None carries an item's values. `--debug` shows the traceback.\n\n"
        f"```tree\n{drawn}\n```\n\n{table(('error', 'meaning', 'exit status'), rows)}\n## Exit statuses\n\n"
        + table(
            ("status", "meaning"),
            (
                ("0", "done; records that went to quarantine are a warning"),
                ("1", "a check failed, or data is in doubt: the message says what to do"),
                (str(exit_status(tree.UsageError(""))), "wrong use or configuration"),
                (str(INTERRUPT_STATUS), "interrupted"),
                (str(BROKEN_PIPE_STATUS), "the reader of stdout left"),
            ),
        )
        + "\nWhat AWS refuses, with the next step for each refusal, is told in "
        "[A table in another account](../guides/cross-account.md#what-goes-wrong-and-what-it-looks-like).\n"
    )


def _error_types() -> Iterator[type[Exception]]:
    for one in vars(tree).values():
        if isinstance(one, type) and issubclass(one, tree.DdbLakeError):
            yield one


def python() -> str:
    """`ddb_lake.open` and what it gives."""
    parts = ["# Python\n\n`import ddb_lake` is light; what it names is imported when asked for.\n\n"]
    parts.append(_documented("ddb_lake.open", open_lake, 2))
    for kind in (OpenLake, LakeTable):
        parts.append(f"## {kind.__name__}\n\n{_paragraphs(kind)}")
        for name, member in vars(kind).items():
            public = not name.startswith("_") and isinstance(member, property | type(open_lake))
            if public:
                parts.append(_documented(name, member, 3))
    return "".join(parts)


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
}
"""The pages by their place in the site, and what makes each."""
