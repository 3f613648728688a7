"""A lake whose names and values are Markdown, HTML, links and controls, and what a browser makes of its pages."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import dagster as dg
import yaml

from ddb_lake.orchestration.in_process_daemon import InProcessDaemon, Run, run_job
from ddb_lake.orchestration.open_project import configured_definitions, dagster_home, write_code
from ddb_lake.orchestration.sensor import arrivals_sensor
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order, write_changes, write_export

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOST = "evil.example"
TABLE = f"www.{HOST}"
"""A name that DynamoDB permits, and that GitHub's Markdown makes a link of."""

TEXTS = (
    f"![x](http://{HOST}/image.png)",
    f'<img src="http://{HOST}/image.png" onerror="alert(1)">',
    f"[x](http://{HOST}/link)",
    "[x](javascript:alert(1))",
    '<a href="javascript:alert(1)">x</a>',
    f"<http://{HOST}/angle>",
    f"https://{HOST}/bare",
    f"me@{HOST}",
    "<script>alert(1)</script>",
    "<svg onload=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "&#60;img src=x onerror=alert(1)&#62;",
    f"x\n\n# title\n\n[x]: http://{HOST}/reference\n[x]",
    f"x | y\n--- | ---\n![x][y]\n\n[y]: http://{HOST}/cell",
    "x\x1b]0;t\x07\x1b[2J\u202e\u2066\u200b",
    "{{constructor.constructor('alert(1)')()}}",
)
"""Attribute names, values, names of objects and reasons."""

CONTROLS = ("\x1b", "\x07", "\u202e", "\u2066")


@dataclass
class HostileLake:
    """The lake in `folder`, which is filled when it is made."""

    folder: Path
    runs: list[Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.landing, self.config = self.folder / "landing", self.folder / "ddb_lake.yaml"
        self.landing.mkdir()
        table: dict[str, Any] = {"name": TABLE, "key": ["customer", "order_id"]}
        table |= {"export": {"bucket": str(self.folder / "exports")}, "changes": {"uri": str(self.landing)}}
        self.config.write_text(yaml.safe_dump({"warehouse": str(self.folder / "lake"), "tables": [table]}))

    def fill(self) -> None:
        """Load an export, apply good, damaged and foreign objects, remove one that was seen, and evaluate the checks."""
        with self._instance() as instance:
            defs = configured_definitions(self.config)
            sensor = arrivals_sensor(defs)
            daemon = InProcessDaemon(defs, instance, sensor.name)
            self.name = sensor.name.removesuffix("_arrivals")
            self._export()
            self._tick(daemon)
            self._land()
            self._tick(daemon)
            self._check(defs, instance)
            self._land_more()
            self._check(defs, instance)
            for text in TEXTS:
                self._object("later", text).unlink()
            self._tick(daemon)
            self._check(defs, instance)
            self._damage_export()
            self._tick(daemon)

    def run_ids(self) -> list[str]:
        """The ids of the runs that failed, that loaded and that applied, the newest first."""
        with self._instance() as instance:
            runs = instance.get_runs()
        return [run.run_id for run in runs if run.job_name == f"{self.name}_sync"]

    def code(self) -> tuple[list[str], dict[str, str]]:
        """The arguments and the variables of a webserver on it."""
        home = dagster_home(self.folder)
        variables = {"DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "yes"}
        return ["-f", str(write_code(home, self.config))], variables

    @contextmanager
    def _instance(self) -> Iterator[dg.DagsterInstance]:
        with mock.patch.dict(os.environ, {"DAGSTER_HOME": ""}):
            home = dagster_home(self.folder)
        with mock.patch.dict(os.environ, {"DAGSTER_HOME": str(home)}), dg.DagsterInstance.get() as instance:
            yield instance

    def _tick(self, daemon: InProcessDaemon) -> None:
        daemon.cursor = None  # list everything, as after hours without a tick
        self.runs += daemon.tick().runs

    def _check(self, defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self.runs.append(run_job(defs, instance, f"{self.name}_checks_job", "the checks"))

    def _export(self) -> None:
        (self.folder / "exports").mkdir()
        collisions = {"SAME" + text: {"S": text} for text in TEXTS[:2]} | {
            "same" + text: {"N": "1"} for text in TEXTS[:2]
        }
        items = [order(text, n, **{name: {"S": text} for name in TEXTS}, **collisions) for n, text in enumerate(TEXTS)]
        write_export(self.folder / "exports", TABLE, items)

    def _damage_export(self) -> None:
        """A newer export, whose data file has a name of data and another checksum than its manifest says."""
        (first,) = (self.folder / "exports" / "AWSDynamoDB").iterdir()
        newer = first.with_name("01715785260608-c488b4e2")
        shutil.copytree(first, newer)
        (data,) = (newer / "data").iterdir()
        hostile = newer / "data" / "".join(TEXTS[1:3] + TEXTS[-2:-1]).replace("/", "")
        data.rename(hostile)
        for manifest in newer.glob("*.json"):
            text = manifest.read_text().replace(first.name, newer.name).replace("05-14T11", "05-15T15")
            document = json.loads(text)
            if "dataFileS3Key" in document:
                document |= {"dataFileS3Key": str(hostile.relative_to(self.folder / "exports")), "md5Checksum": "none"}
            manifest.write_text(json.dumps(document))

    def _land(self) -> None:
        for number, text in enumerate(TEXTS):
            new = order(text, number, **{text: {"M": {text: {"S": text}}}, f"new {text}": {"S": text}})
            missing = order(text, number, **{text: {"S": f"never written {text}"}})
            at_us = EXPORT_US + 3_600_000_000 + number
            good = [
                change(number, at_us, new, table=TABLE),
                change(100 + number, at_us + 50, new, missing, table=TABLE),
            ]
            write_changes(self._object("good", text), *good)
            write_changes(self._object("other", text), change(200 + number, at_us, new, table=text))
            damaged = self._object("damaged", text)
            damaged.parent.mkdir(parents=True, exist_ok=True)
            damaged.write_bytes(
                b'{"dynamodb": {"Keys": {}}, "eventName": ' + repr(text).encode() + b"}" + text.encode()
            )

    def _land_more(self) -> None:
        for number, text in enumerate(TEXTS):
            path = self._object("later", text)
            write_changes(path, change(300 + number, EXPORT_US + 7_200_000_000, order(text, number), table=TABLE))

    def _object(self, kind: str, text: str) -> Path:
        """The path of an object. A slash of the text begins a folder, as in a key of S3."""
        name = "/".join(part for part in f"{kind} {text}".split("/") if part)
        return self.landing / "2025/02/03/04" / name


@dataclass
class Findings:
    """What a page did or has that came from data."""

    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)
    controls: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def watch(self, page: Page, url: str) -> None:
        """Record requests to other hosts than that of `url`, and dialogs."""

        def requested(address: str) -> None:
            if not address.startswith((url, url.replace("http", "ws", 1), "data:", "blob:")):
                self.requests.append(address)

        def opened(dialog: Any) -> None:
            self.dialogs.append(dialog.message)
            dialog.dismiss()

        page.on("request", lambda request: requested(request.url))
        page.on("websocket", lambda socket: requested(socket.url))
        page.on("dialog", opened)

    def look(self, page: Page) -> None:
        """Record the elements of the page that lead elsewhere or run code, and control characters that it shows."""
        self.elements += page.evaluate(_LEADING_ELSEWHERE, HOST)
        text = page.evaluate("document.body.innerText") + page.title()
        self.texts.append(text)
        self.controls += [repr(c) for c in CONTROLS if c in text]


_LEADING_ELSEWHERE = """host => [...document.querySelectorAll('*')].flatMap(e => [...e.attributes]
    .filter(a => a.name.startsWith('on') || a.name === 'srcdoc'
        || (['href', 'src', 'srcset', 'action', 'formaction', 'xlink:href', 'data', 'poster', 'background'].includes(a.name)
            && (/^\\s*javascript:/i.test(a.value) || (new RegExp(host, 'i').test(a.value)
                && new URL(a.value, document.baseURI).host !== location.host))))
    .map(a => `${location.pathname}${location.search}: <${e.tagName} ${a.name}=${a.value}>`))"""
