"""`ddb-lake sandbox`: the embedded AWS emulator, its functions, its clock, and a data generator."""

from __future__ import annotations

import logging
import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from ddb_lake.cli.command import LakeGroup, json_option, options_object
from ddb_lake.cli.output.progress import Reporter
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.cli.stopping import stopped_by
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.display_text import escape_controls

if TYPE_CHECKING:
    from ddb_lake.sandbox import LocalFunction, Sandbox

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHAPES = ("employees", "orders", "web-analytics", "clicks")


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The options of `ddb-lake sandbox`."""

    port: int
    region: str
    functions: tuple[str, ...]
    variables: tuple[str, ...]
    as_json: bool


@click.group(
    "sandbox",
    cls=LakeGroup,
    invoke_without_command=True,
    short_help="Run the embedded AWS emulator alone.",
    examples=(
        "ddb-lake sandbox --port 4566",
        "ddb-lake sandbox --env transform:DDB_LAKE_MODE=flatten",
        "ddb-lake sandbox --function mine=functions/mine.py:handler --env mine:COLOR=green",
        "ddb-lake sandbox traffic --shape employees --count 300",
        "ddb-lake sandbox advance 2m",
    ),
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=4566,
    show_default=True,
    help="Port on 127.0.0.1; 0: any free port.",
)
@click.option("--region", default="eu-west-1", show_default=True, help="The Region of the printed environment.")
@click.option(
    "--function",
    "functions",
    multiple=True,
    metavar="NAME=CODE",
    help="A Lambda function: FILE.py:handler or package.module:handler. May be repeated.",
)
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME:KEY=VALUE",
    help="An environment variable of a function. May be repeated.",
)
@json_option
@click.pass_context
@options_object(ServeOptions)
def sandbox(ctx: click.Context, options: ServeOptions) -> None:
    """Serve the embedded AWS emulator until interrupted, and print the environment variables for its clients.

    A shell can evaluate the lines on stdout. Nothing is stored on disk. Needs the `sandbox` extra.

    Lambda functions run in processes of their own, with this Python. The functions transform, validate, forward, replicate
    and load_aurora exist from the start, without settings: set them with --env, or with `aws lambda
    update-function-configuration`. Others are created with --function or `aws lambda create-function`. What they print, and
    their errors, are written to stderr.
    """
    if ctx.invoked_subcommand is not None:
        _refuse_own_options(ctx)
        return
    functions = _local_functions(options.functions, options.variables)
    from ddb_lake.sandbox import serve

    def ready(served: Sandbox) -> None:
        if options.as_json:
            write_document(served.environment())
        else:
            for name, value in served.environment().items():
                echo(f"export {name}={quote(value)}")
        echo(f"The sandbox serves at {served.endpoint_url}; Ctrl-C ends it.", err=True)

    stop = threading.Event()
    with _log_on_stderr(), stopped_by(stop, signal.SIGTERM):
        serve(options.port, ready, region=options.region, functions=functions, stop=stop)


@dataclass(frozen=True, slots=True)
class TrafficOptions:
    """The options of `ddb-lake sandbox traffic`."""

    shape: str
    table: str | None
    stream: str | None
    count: int
    rate: float | None
    seed: int


_endpoint_option = click.option(
    "--endpoint-url",
    envvar="AWS_ENDPOINT_URL",
    default="http://127.0.0.1:4566",
    show_default=True,
    metavar="URL",
    help="Address of the sandbox; also $AWS_ENDPOINT_URL.",
)


@sandbox.command(
    "traffic",
    short_help="Change a table of the sandbox, or put events into a stream.",
    examples=(
        "ddb-lake sandbox traffic --shape employees --table blog-srsa-ddb-table --count 300",
        "ddb-lake sandbox traffic --shape web-analytics --rate 20 --seed 7",
        "ddb-lake sandbox traffic --shape clicks --stream web-analytics --count 1000 --json",
    ),
)
@click.option(
    "--shape",
    type=click.Choice(_SHAPES),
    default="orders",
    show_default=True,
    help="What to write. clicks: events into a Kinesis stream; the others: items of a table.",
)
@click.option("--table", metavar="NAME", help="Table to change; default: the shape's own.")
@click.option("--stream", metavar="NAME", help="Kinesis stream for clicks; default: web-analytics.")
@click.option(
    "--count", type=click.IntRange(min=1), default=100, show_default=True, help="Number of changes or events."
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="PER_SECOND",
    help="Changes a second at most; default: no limit.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed makes the same changes.")
@_endpoint_option
@json_option
@options_object(TrafficOptions)
def traffic(options: TrafficOptions, endpoint_url: str, as_json: bool) -> None:
    """Insert, update and delete items of a table of the running sandbox; or put events into a Kinesis stream.

    The table or the stream must exist. Each change makes one change record: of ten changes, about six insert, three update and
    one deletes. With the same seed on an empty table the changes are the same; only orders have the time of the run.
    """
    from ddb_lake.sandbox.generator import SHAPES, generate
    from ddb_lake.sandbox.running import RunningSandbox

    shape = SHAPES[options.shape]
    misplaced = "--table" if not shape.key and options.table else "--stream" if shape.key and options.stream else None
    if misplaced:
        raise click.UsageError(f"{misplaced} does not belong to the shape {options.shape}.")
    target = options.table or options.stream or shape.target
    running = RunningSandbox(endpoint_url)
    running.describe()  # before anything is written: what answers must be a sandbox
    with Reporter(not as_json) as reporter:
        made = generate(
            options.shape,
            running.client,
            target,
            options.count,
            seed=options.seed,
            rate=options.rate,
            progress=reporter.progress,
        )
    if as_json:
        write_document({**asdict(made), "count": made.total})
    else:
        kinds = ", ".join(count_text(n, kind.removesuffix("s")) for kind, n in made.changes.items())
        echo(f"{target}: {count_text(made.total, 'change')}: {kinds}")


@sandbox.command(
    "advance",
    short_help="Move the sandbox's clock forward.",
    examples=("ddb-lake sandbox advance 2m", "ddb-lake sandbox advance 0s"),
)
@click.argument("duration", metavar="DURATION")
@_endpoint_option
@json_option
def advance(duration: str, endpoint_url: str, as_json: bool) -> None:
    """Move the clock of the running sandbox forward by DURATION (90s, 5m, 1h), and wait until it has delivered what is due.

    Firehose then writes the buffers that are older than their interval, Time to Live deletes expired items, and
    functions process what was written. The keys of the new objects are printed.
    """
    from ddb_lake.config.base import seconds
    from ddb_lake.sandbox.running import RunningSandbox

    try:
        by = seconds(duration)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="DURATION") from None
    document = RunningSandbox(endpoint_url).advance(by)
    if as_json:
        write_document(document)
        return
    echo(f"{document['now']}: {count_text(len(document['objects']), 'object')} written")
    for name in document["objects"]:
        echo(name)


def _refuse_own_options(ctx: click.Context) -> None:
    for parameter in ctx.command.params:
        given = ctx.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        if given and parameter.name in ServeOptions.__dataclass_fields__:
            raise click.UsageError(
                f"{parameter.opts[0]} belongs to `ddb-lake sandbox` without a subcommand, which serves."
            )


def _local_functions(codes: Sequence[str], variables: Sequence[str]) -> list[LocalFunction]:
    """The project's own functions and those of --function, each with its variables."""
    from ddb_lake.sandbox import PRODUCT

    found = {function.name: function for function in PRODUCT}
    for text in codes:
        function = _function_of(text)
        found[function.name] = function
    for name, own in _variables_by_function(variables).items():
        if name not in found:
            raise click.BadParameter(f"there is no function {name!r}; there are {', '.join(found)}", param_hint="--env")
        found[name] = replace(found[name], environment=own)
    return list(found.values())


def _function_of(text: str) -> LocalFunction:
    from ddb_lake.sandbox import LocalFunction

    name, _, code = text.partition("=")
    where, colon, attribute = code.rpartition(":")
    if not _NAME.fullmatch(name) or not colon or not attribute.isidentifier():
        raise click.BadParameter(
            f"{text!r}: expected NAME=FILE.py:handler or NAME=package.module:handler", param_hint="--function"
        )
    if not where.endswith(".py"):
        return LocalFunction(name, f"{where}.{attribute}")
    file = Path(where)
    if not file.is_file():
        raise click.BadParameter(f"{where}: no such file", param_hint="--function")
    return LocalFunction(name, f"{file.stem}.{attribute}", file.parent.resolve())


def _variables_by_function(variables: Sequence[str]) -> Mapping[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for text in variables:
        name, colon, variable = text.partition(":")
        key, equals, value = variable.partition("=")
        if not colon or not equals or not key:
            raise click.BadParameter(f"{text!r}: expected NAME:KEY=VALUE", param_hint="--env")
        found.setdefault(name, {})[key] = value
    return found


class _PrintableFormatter(logging.Formatter):
    """One line for each line of a message. A function's output must not control the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(escape_controls(line) for line in super().format(record).splitlines())


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Write the sandbox's log to stderr, with what its functions print."""
    handler = logging.StreamHandler()
    handler.setFormatter(_PrintableFormatter("%(message)s"))
    log = logging.getLogger("ddb_lake.sandbox")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
