"""Runs a guide as its reader would: each `sh` block in bash, in one folder, against a sandbox.

The programs `aws` and `ddb-lake` run in this process, because starting them takes most of their time: on the PATH of the shell they are
scripts that pass their arguments, folder and AWS variables to a socket. Everything else is the shell's.

A block that starts a server (`ddb-lake sandbox` without a subcommand) is replaced by a sandbox of this process with the same options. A
`text` block is the end of the output of the block before it; `…` in it matches any text.

`ddb-lake sandbox` delivers every second, so how much it has delivered before a command depends on the reader's pace. A guide has to hold at
each: `GuideRun.pause` is the time of the sandbox's clock between two commands.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shlex
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from ddb_lake.aws.session import session
from ddb_lake.cli.app import cli
from ddb_lake.cli.commands import sandbox as sandbox_command
from ddb_lake.cli.invocation import Invocation
from ddb_lake.sandbox import Sandbox, backend
from ddb_lake.sandbox.items import canonical
from ddb_lake_tests.support.aws_command_line import aws, client_of
from ddb_lake_tests.support.docs_blocks import Block

_PORT = "127.0.0.1:4566"
_END = "\x1e"
_STAND_IN = """#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/{port}
{{ printf '%s\\0' "${{0##*/}}" "$PWD" "$(env -0 | base64 -w0)" "$#" "$@"; }} >&3
IFS= read -r status <&3
cat <&3
exit "$status"
"""


@dataclass(slots=True)
class GuideRun:
    """The run of one page.

    `pause`: the time between two commands; then the sandbox delivers what is due. None: it delivers only when a command
    makes it. `outputs`: the output of each block, by its number. `items`: those of each lake's tables. `warnings`: lines on
    stderr of commands that succeeded; the page must have each.
    """

    blocks: Sequence[Block]
    folder: Path
    pause: timedelta | None = None
    outputs: dict[int, str] = field(default_factory=dict)
    items: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: set[str] = field(default_factory=set)
    identity: Mapping[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """The folder in which the reader works."""
        return self.folder / "work"

    def run(self, replaced: Mapping[str, str] | None = None) -> None:
        """Run all blocks. `replaced`: texts of the page and what is in their place here, such as addresses."""
        server = next(block for block in self.blocks if _is_server(block) and block.text.startswith("ddb-lake"))
        self.work.mkdir()
        with (
            _sandbox(server) as served,
            socket.create_server(("127.0.0.1", 0)) as listening,
            contextlib.chdir(self.work),
        ):
            address = served.endpoint_url.removeprefix("http://")
            done = self._shell(listening, served, {_PORT: address, **(replaced or {})})
            assert done.returncode == 0, "\n".join([done.stdout[-2000:], done.stderr[-3000:], *self.errors])
            shell = [block for block in self.blocks if block.language == "sh" and not _is_server(block)]
            self.outputs = {b.number: text for b, text in zip(shell, done.stdout.split(_END), strict=False)}
            self._compare_outputs()
            pages = {line for block in self.blocks for line in block.text.splitlines()}
            assert self.warnings <= pages, "the page shows every warning"
            self._compare_items(served)

    def _shell(
        self, listening: socket.socket, served: Sandbox, replaced: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        programs = self.folder / "programs"
        programs.mkdir()
        for name in ("aws", "ddb-lake"):
            (programs / name).write_text(_STAND_IN.format(port=listening.getsockname()[1]))
            (programs / name).chmod(0o755)
        (programs / "python").symlink_to(sys.executable)
        script = "set -euo pipefail\n"
        for block in self.blocks:
            if block.language == "sh" and not _is_server(block):
                script += f"{block.text}\nprintf '{_END}'\n"
        for text, here in replaced.items():
            script = script.replace(text, here)
        serving = threading.Thread(target=self._serve, args=(listening, served), daemon=True)
        serving.start()
        try:
            return subprocess.run(
                ["/bin/bash", "-c", script],
                cwd=self.work,
                env={"PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.work), "LANG": "C.UTF-8"},
                capture_output=True,
                text=True,
            )
        finally:
            socket.create_connection(listening.getsockname()).close()  # ends the server
            serving.join()

    def _serve(self, listening: socket.socket, served: Sandbox) -> None:
        while True:
            connection, _ = listening.accept()
            with connection, connection.makefile("rwb") as stream:
                words = _words(stream)
                if not words:
                    return
                program, folder, variables, *arguments = words
                environment = dict(
                    line.split("=", 1) for line in base64.b64decode(variables).decode().split("\0") if line
                )
                try:
                    output, error, status = self._call(program, arguments, Path(folder), environment)
                    if self.pause is not None:
                        served.advance(self.pause)
                except Exception:  # the command ends with an error, and the test with its text
                    output, error, status = "", traceback.format_exc(), 255
                if error:
                    self.errors.append(f"{shlex.join([program, *arguments])}\n{error}")
                stream.write(f"{status}\n{output}".encode())

    def _call(
        self, program: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> tuple[str, str, int]:
        given = {name: text for name, text in environment.items() if name.startswith("AWS_")}
        if program == "aws":
            identity = tuple(sorted(given.items()))
            return aws(arguments, folder, lambda service: _client(identity, service))
        if given != self.identity:  # the clients of one identity are kept: creating them is slow
            session.cache_clear()
            self.identity = given
        absent = dict.fromkeys(("AWS_SESSION_TOKEN", "AWS_PROFILE", "DDB_LAKE_CONFIG"))
        runner = CliRunner(env={**absent, **given})
        done = runner.invoke(cli, list(arguments), prog_name="ddb-lake", catch_exceptions=True)
        self.warnings |= {
            line for line in done.stderr.splitlines() if line.startswith("Warning:") and not done.exit_code
        }
        failed = done.exit_code and done.exc_info and not isinstance(done.exception, SystemExit)
        return done.stdout, f"{done.stderr}{done.exception if failed else ''}" if done.exit_code else "", done.exit_code

    def _compare_outputs(self) -> None:
        last = 0
        by_number = {block.number: block for block in self.blocks}
        for block in self.blocks:
            if block.language == "sh":
                last = block.number
            elif block.language == "text" and last in self.outputs and not self.warnings & set(block.text.splitlines()):
                if self.pause and _ends_with_advance(by_number[last]):
                    continue  # a slow reader finds the objects written before
                expected = block.text.rstrip("\n").splitlines()
                printed = self.outputs[last].rstrip("\n").splitlines()[-len(expected) :]
                pattern = "\n".join(".*".join(map(re.escape, line.split("…"))) for line in expected)
                assert re.fullmatch(pattern, "\n".join(printed)), f"{block.name}: printed\n{self.outputs[last]}"

    def _compare_items(self, served: Sandbox) -> None:
        """Each lake of the page has exactly the items of its tables, whichever account they are in."""
        found = sorted(self.work.glob("*.yaml"))
        assert found, "the page configures no lake"
        for config in found:
            settings = yaml.safe_load(config.read_text())["attributes"]
            for table in settings["tables"]:
                source = table.get("source", {})
                items = _source_items(source.get("table", table["name"]), source.get("region", served.region))
                dumped = CliRunner(env=served.environment()).invoke(
                    cli, ["--config", str(config), "dump", table["name"]], catch_exceptions=False
                )
                rows = sorted(canonical(json.loads(line)["Item"]) for line in dumped.stdout.splitlines())
                assert rows == sorted(map(canonical, items)) and rows, f"{config.name}: {table['name']}"
                self.items[config.name, table["name"]] = items


def _sandbox(server: Block) -> Sandbox:
    _, _, *arguments = shlex.split(server.text.replace("\\\n", " "))
    parameters = sandbox_command.sandbox.make_context("sandbox", list(arguments), obj=Invocation()).params
    functions = sandbox_command._local_functions(parameters["functions"], parameters["variables"])
    return Sandbox(region=parameters["region"], functions=functions)


def _is_server(block: Block) -> bool:
    """Whether a block starts a server: the sandbox, or MariaDB, which the tests start in another way."""
    words = block.text.split()
    if words[:1] == ["mariadb-install-db"]:
        return True
    return words[:2] == ["ddb-lake", "sandbox"] and not set(words) & {"traffic", "advance"}


def _ends_with_advance(block: Block) -> bool:
    return block.text.rstrip("\n").splitlines()[-1].startswith("ddb-lake sandbox advance ")


def _words(stream: Any) -> list[str]:
    """The program, its folder, its environment and its arguments, each ended by a zero byte; none from a closed connection."""
    found: list[str] = []
    word = bytearray()
    while (byte := stream.read(1)) != b"":
        if byte != b"\0":
            word += byte
            continue
        found.append(word.decode())
        word.clear()
        if len(found) > 3 and len(found) == 4 + int(found[3]):
            return found[:3] + found[4:]
    return []


@lru_cache
def _client(identity: tuple[tuple[str, str], ...], service: str) -> Any:
    return client_of(dict(identity), service)


def _source_items(table: str, region: str) -> list[Any]:
    tables = [backend.find_table(backend.Scope(account, region), table) for account in backend.accounts()]
    (found,) = (one for one in tables if one is not None)
    return list(backend.read_items(found))
