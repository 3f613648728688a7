"""The registry of examinations is complete, and an error of one of them is a failed check."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from ddb_lake.cli import doctor
from ddb_lake.cli.doctor import registry
from ddb_lake.cli.doctor.finding import Finding, ok
from ddb_lake.cli.doctor.registry import ACCOUNT, CAPTURE, INSTALLATION, LAKE, TABLE, Examination
from ddb_lake.errors import TerminalError


def test_registry_names_every_examination_of_the_package() -> None:
    source = Path(registry.__file__).read_text(encoding="utf-8")
    for module in pkgutil.iter_modules(doctor.__path__):
        if module.name != "registry":
            members = vars(import_module(f"{doctor.__name__}.{module.name}"))
            examinations = {name for name in members if name.startswith("examine_")}
            assert {name for name in examinations if f"{module.name}.{name}" not in source} == set(), module.name


def test_examination_that_raises_is_a_failed_check_with_its_next_step() -> None:
    def examine(_: None) -> Iterator[Finding]:
        yield ok("so far")
        raise TerminalError("no answer")

    found = list(Examination("clock", examine, "set it").run(None, "orders: "))
    assert found == [
        Finding("orders: clock", "ok", "so far"),
        Finding("orders: clock", "fail", "no answer", "set it"),
    ]


def test_examination_without_its_precondition_has_no_finding() -> None:
    examination: Examination[None] = Examination("clock", lambda _: [ok("looked")], "set it", lambda _: False)
    assert list(examination.run(None)) == []


def test_every_examination_has_a_next_step() -> None:
    entries = [*INSTALLATION, *LAKE, *ACCOUNT, *TABLE, CAPTURE, registry.SENSORS]
    assert all(entry.check and entry.on_error for entry in entries)
