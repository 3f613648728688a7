"""Packages: the same bytes every time, nothing but pure Python, and enough to import the handler."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ddb_lake.errors import ConfigError
from ddb_lake.infra import packaging
from ddb_lake.infra.config import EnrichmentSettings
from ddb_lake.infra.imports import modules_needed, third_party
from ddb_lake.infra.packaging import UserCode, build_package, distributions, handler_modules, requirements

HANDLERS = ("transform", "validate", "forward", "load_aurora", "replicate")
_ONLY_PACKAGE = """
import sys
sys.path = [{package!r}] + [p for p in sys.path if "site-packages" not in p and p]
sys.meta_path.insert(0, type("Runtime", (), {{"find_spec": staticmethod(lambda name, path=None, target=None: (
    __import__("importlib.machinery").machinery.PathFinder.find_spec(name, [{site!r}])
    if name.split(".")[0] in {{"boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3"}} and path is None
    else None))}}))
import importlib
module = importlib.import_module("ddb_lake.lambdas.{handler}")
assert module.__file__.startswith({package!r}), module.__file__
assert callable(module.handler)
"""


@pytest.mark.parametrize("handler", HANDLERS)
def test_package_holds_all_that_the_handler_imports(handler: str, tmp_path: Path) -> None:
    package = build_package(handler, tmp_path)
    site = str(Path(pytest.__file__).parents[1])
    code = _ONLY_PACKAGE.format(package=str(package), site=site, handler=handler)
    environment = {"AWS_DEFAULT_REGION": "eu-west-1", "POWERTOOLS_METRICS_NAMESPACE": "test"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_two_packages_have_the_same_bytes_and_old_times(tmp_path: Path) -> None:
    first, second = build_package("forward", tmp_path / "a"), build_package("forward", tmp_path / "b")
    assert (first.name, first.read_bytes()) == (second.name, second.read_bytes())
    with zipfile.ZipFile(first) as package:
        names = package.namelist()
        assert names == sorted(names)
        assert {entry.date_time for entry in package.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert not [name for name in names if name.endswith((".so", ".pyd", ".dylib", ".pyc"))]


def test_package_name_changes_with_its_contents(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("one")
    first = build_package("load_aurora", tmp_path, bundle)
    bundle.write_text("two")
    second = build_package("load_aurora", tmp_path, bundle)
    assert first.name != second.name
    with zipfile.ZipFile(second) as package:
        assert package.read(packaging.CERTIFICATES) == b"two"


def user_code(folder: Path, function: str = "shop.items:enrich") -> UserCode:
    module = folder / "shop" / "items.py"
    module.parent.mkdir(parents=True, exist_ok=True)
    module.with_name("__init__.py").touch()
    module.write_text("import fastjsonschema\nfrom shop import rates\n\ndef enrich(item, origin): return item\n")
    module.with_name("rates.py").write_text("import json\n")
    module.with_name("rates.csv").write_text("EUR,1\n")
    return UserCode(folder, function)


def test_users_module_is_packaged_with_what_it_imports(tmp_path: Path) -> None:
    package = build_package("transform", tmp_path / "out", user_code=user_code(tmp_path / "code"))
    with zipfile.ZipFile(package) as opened:
        names = set(opened.namelist())
    assert {"shop/__init__.py", "shop/items.py", "shop/rates.csv", "fastjsonschema/__init__.py"} <= names
    program = "from ddb_lake.lambdas.enrichment import Enrichment; print(Enrichment.named('shop.items:enrich').name)"
    code = f"import sys; sys.path = [{str(package)!r}] + [p for p in sys.path if 'site-packages' not in p and p]; {program}"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("shop.items:enrich\n", "")


def test_users_module_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for function in ("shop.other:enrich", "other:enrich"):
        with pytest.raises(ConfigError, match="has no module of"):
            build_package("transform", tmp_path / "out", user_code=user_code(tmp_path / "code", function))
    ours = tmp_path / "code" / "ddb_lake"
    ours.mkdir()
    (ours / "errors.py").touch()
    with pytest.raises(ConfigError, match="has a package ddb_lake"):
        build_package("transform", tmp_path / "out", user_code=user_code(tmp_path / "code"))


@pytest.mark.parametrize(
    ("enrich", "reason"),
    [
        ({"transform": "shop", "code": "shop.py"}, "expected package.module:function"),
        ({"replicate": "shop:enrich"}, "`code` is needed"),
    ],
)
def test_enrichment_needs_a_function_and_its_code(enrich: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        EnrichmentSettings.model_validate(enrich)


def test_lake_itself_is_in_no_package() -> None:
    heavy = {"duckdb", "pyarrow", "pyiceberg", "dagster", "pandas"}
    for handler in HANDLERS:
        assert not heavy & set(requirements(distributions(handler_modules(handler)))), handler


def test_binary_distribution_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaging, "distributions", lambda _: ["orjson"])
    with pytest.raises(ConfigError, match="orjson is not pure Python"):
        build_package("transform", tmp_path)


def test_missing_distribution_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaging, "distributions", lambda _: ["no-such-distribution"])
    with pytest.raises(ConfigError, match="install the extra"):
        build_package("transform", tmp_path)


def test_unknown_handler_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="transform"):
        build_package("nothing", tmp_path)


def test_own_imports_are_followed_at_the_top_and_those_of_others_in_functions_too(tmp_path: Path) -> None:
    package = tmp_path / "pack"
    package.mkdir()
    sources = {
        "__init__": "",
        "a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack import c\nelse:\n    import json\n"
        "from pack import b\ndef f():\n    from pack import c\n    import boto3.session\n",
        "b": "import os\n",
        "c": "",
    }
    for name, source in sources.items():
        (package / f"{name}.py").write_text(source)
    needed = modules_needed(package, "pack.a")
    assert [path.stem for path in needed] == ["__init__", "a", "b"]
    assert third_party(needed, "pack") == {"boto3"}
