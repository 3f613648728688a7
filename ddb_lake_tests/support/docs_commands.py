"""Shell blocks, taken apart by the shell itself, and each command checked by what would parse it.

A block runs in bash with a PATH on which every program is replaced by one that records how it was called. So quoting,
comments, redirections, variables and functions are the shell's business, and a program without a replacement fails.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tomllib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import botocore.session
import click
import yaml
from botocore import xform_name
from packaging.requirements import Requirement

from ddb_lake.cli.app import cli
from ddb_lake.cli.invocation import Invocation
from ddb_lake.infra.__main__ import main as infra
from ddb_lake_tests.support.docs_blocks import ROOT

Call = list[str]
"""A program's name and its arguments."""

_STAND_IN = '#!/bin/bash\nprintf "%s\\0" "${{0##*/}}" "$@" "{end}" >> "{log}"\n'
_END = "end of call"

_AWS_GLOBAL = {"--query", "--output", "--region", "--profile", "--cli-binary-format", "--max-items"}
_AWS_MORE = {("lambda", "create-function"): {"--zip-file"}}
"""Options that the AWS command line adds to an operation of the service."""

_SERVICES = {"s3api": "s3"}

_AWS_CUSTOM = {
    ("logs", "tail"): {"--since", "--follow"},
    ("s3", "ls"): {"--recursive"},
    ("s3", "cp"): {"--recursive", "--exclude", "--include"},
    ("s3", "sync"): set(),
    ("cloudformation", "deploy"): {
        "--template-file", "--stack-name", "--capabilities", "--s3-bucket", "--parameter-overrides",
    },
}  # fmt: skip
"""Commands that the AWS command line makes itself, with their documented options."""


def calls(text: str, folder: Path) -> list[Call]:
    """The programs that a block calls, in order. Raises AssertionError if the shell does not understand it."""
    stand_ins, log = folder / "stand-ins", folder / "calls"
    (folder / ".config/fish/completions").mkdir(parents=True)
    for place in (stand_ins, folder / ".venv/bin"):
        place.mkdir(parents=True)
        for name in PROGRAMS:
            (place / name).write_text(_STAND_IN.format(log=log, end=_END))
            (place / name).chmod(0o755)
    log.write_text("")
    script = f"PATH={stand_ins}\nHOME={folder}\nEDITOR=editor\nset -eu\n{text}"
    done = subprocess.run(["/bin/bash", "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [record.split("\0") for record in log.read_text().split(f"\0{_END}\0") if record]


def check(call: Call) -> None:
    """Raise AssertionError or click's error if a program would not understand how it is called."""
    PROGRAMS[call[0]](call[1:])


def parse(command: click.Command, name: str, arguments: Sequence[str], parent: click.Context | None = None) -> None:
    """Parse arguments as click does before it runs a command; nothing runs."""
    context = command.make_context(name, list(arguments), parent=parent, obj=Invocation())
    if isinstance(command, click.Group):
        given = [*context._protected_args, *context.args]
        if not given and command.invoke_without_command:
            return
        found, member, rest = command.resolve_command(context, given)
        assert member is not None and found is not None, arguments
        parse(member, found, rest, context)


def _aws(arguments: Sequence[str]) -> None:
    service, operation, *rest = arguments
    options = {argument for argument in rest if argument.startswith("--")}
    if (service, operation) in _AWS_CUSTOM:
        known = _AWS_CUSTOM[service, operation]
    else:
        model = botocore.session.get_session().get_service_model(_SERVICES.get(service, service))
        names = {xform_name(name, "-"): name for name in model.operation_names}
        assert operation in names, f"aws {service} has no {operation}"
        shape = model.operation_model(names[operation]).input_shape
        members = {xform_name(member, "-") for member in shape.members}
        known = {f"--{no}{member}" for member in members for no in ("", "no-")}
        known |= _AWS_MORE.get((service, operation), set())
    assert options <= known | _AWS_GLOBAL, f"aws {service} {operation}: {options - known - _AWS_GLOBAL}"


def _cdk(arguments: Sequence[str]) -> None:
    program, command, *rest = arguments
    assert program == "aws-cdk" and command in ("bootstrap", "synth", "diff", "deploy"), arguments
    if command in ("diff", "deploy"):
        (stack,) = (one for one in rest if one.startswith("ddb-lake-"))
        stacks = yaml.safe_load((ROOT / "ddb_lake_tests/infra/stacks.yaml").read_text(encoding="utf-8"))
        known = set(stacks[stack.removeprefix("ddb-lake-")]["parameters"])
        given = {value.partition("=")[0] for option, value in pairwise(rest) if option == "--parameters"}
        assert given <= known, stack


def _pip(arguments: Sequence[str]) -> None:
    assert arguments[0] == "install"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for argument in arguments[1:]:
        requirement = Requirement(re.sub(r"^\.", "ddb-lake", argument))
        if requirement.name == "ddb-lake":
            assert requirement.extras <= set(extras), argument


def _python(arguments: Sequence[str]) -> None:
    assert arguments[0] == "-m"
    if arguments[1] == "ddb_lake.infra":
        parse(infra, "infra", arguments[2:])
    else:
        assert importlib.util.find_spec(arguments[1]) is not None


def _make(arguments: Sequence[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {one for one in arguments if "=" not in one} <= targets, arguments


def _dbt(arguments: Sequence[str]) -> None:
    project = ["--project-dir", "dbt_project"]
    with_profiles = [*project, "--profiles-dir", "dbt_project"]
    known = (["deps", *project], ["build", *with_profiles], ["source", "freshness", *with_profiles])
    assert list(arguments) in known, arguments


def _dg(arguments: Sequence[str]) -> None:
    known = (["scaffold", "defs", "ddb_lake.DynamoDBLakeComponent"], ["check", "defs"], ["dev"])
    assert list(arguments[:3]) in known or list(arguments[:2]) == ["launch", "--assets"], arguments


def _docker(arguments: Sequence[str]) -> None:
    command, *rest = arguments
    assert command in ("build", "push"), arguments
    if command == "build":
        given = dict(pairwise(rest))
        declared = re.findall(r"^ARG (\w+)", (ROOT / given["--file"]).read_text(encoding="utf-8"), re.MULTILINE)
        assert given["--build-arg"].partition("=")[0] in declared and rest[-1] == ".", arguments


def _anything(arguments: Sequence[str]) -> None:
    """Programs of other projects: their arguments are not checked."""


PROGRAMS: dict[str, Callable[[Sequence[str]], None]] = {
    "ddb-lake": lambda arguments: parse(cli, "ddb-lake", arguments),
    "aws": _aws,
    "docker": _docker,
    "npx": _cdk,
    "pip": _pip,
    "python": _python,
    "make": _make,
    "dbt": _dbt,  # run by ddb_lake_tests/dbt
    "dg": _dg,  # run by ddb_lake_tests/integration/test_foreign_project.py, `dg dev` by ddb_lake_tests/browser
    "editor": _anything,
    "spark-sql": _anything,
    # the tests of the guides of seeds run these
    "cat": _anything,
    "sed": _anything,
    "id": _anything,
    "mariadb": _anything,
    "mariadb-install-db": _anything,
    "mariadbd": _anything,
}
"""What is called in the documentation, and what checks how."""
