"""Lambda packages from the active environment: pure wheels only, byte-identical, without Docker or network.

A package has a handler, the modules of this project that it imports, and the distributions that those require. boto3 is left
out, because the runtime has it (https://docs.aws.amazon.com/lambda/latest/dg/lambda-python.html). Two machines write the same
bytes: files are sorted, times and permissions are fixed, and nothing is compressed.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

from ddb_lake.errors import ConfigError
from ddb_lake.infra.imports import modules_needed, third_party

CodeSource: TypeAlias = Callable[[Any, str], Any]
"""Returns the `aws_cdk.aws_lambda.Code` of a stack and a handler's name."""

IN_THE_RUNTIME = frozenset({"boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3"})
CERTIFICATES = "certificates.pem"
_ROOT = Path(__file__).parents[1]
_MOMENT = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT = re.compile(
    r"(^|/)(__pycache__|tests?)(/|$)|\.pyc$|\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json)$"
)
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def build_package(
    handler: str, folder: Path, certificates: Path | None = None, user_code: UserCode | None = None
) -> Path:
    """Write a handler's package into `folder`, unless it exists. Returns its path, `<handler>-<hash>.zip`.

    `certificates` is packed as `CERTIFICATES`, for a function that reaches a database. `user_code` is packed beside the handler,
    with the distributions that it imports.

    Raises ConfigError if a distribution is not installed, or is not pure Python and so not fit for Lambda's machine, and if
    `user_code` lacks the module of its function.
    """
    extra = {CERTIFICATES: certificates} if certificates else {}
    own = handler_modules(handler)
    if user_code is not None:
        extra |= user_code.files()
    names = [*distributions(own), *(user_code.distributions() if user_code else ())]
    files = dict(sorted({**dict(_contents(own, names)), **extra}.items()))
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(f"{name}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    target = folder / f"{handler}-{digest.hexdigest()[:16]}.zip"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(target, files)
    return target


@dataclass(frozen=True, slots=True)
class UserCode:
    """A user's module for a function: `path` is a Python file, or a folder that has the top package.

    `function`: `package.module:function`.
    """

    path: Path
    function: str

    def files(self) -> dict[str, Path]:
        """The files by their names in the package. Raises ConfigError if the function's module is not among them."""
        if self.path.is_dir():
            found = sorted(path for path in self.path.rglob("*") if path.is_file())
            files = {path.relative_to(self.path).as_posix(): path for path in found}
            files = {name: path for name, path in files.items() if not _LEFT_OUT.search(name)}
        else:
            files = {self.path.name: self.path} if self.path.is_file() else {}
        module = self.function.partition(":")[0].replace(".", "/")
        if f"{module}.py" not in files and f"{module}/__init__.py" not in files:
            raise ConfigError(
                f"{self.path} has no module of {self.function!r}",
                hint=f"`enrich.code`: the file {module.rpartition('/')[2]}.py, or the folder that has {module}.py",
            )
        if any(name.split("/")[0] == _ROOT.name for name in files):
            raise ConfigError(f"{self.path} has a package {_ROOT.name}, which is ours", hint="rename the package")
        return files

    def distributions(self) -> list[str]:
        """The distributions that the modules import."""
        files = self.files()
        own = {name.split("/")[0].removesuffix(".py") for name in files}
        return _distributions_of(third_party([p for n, p in files.items() if n.endswith(".py")], _ROOT.name) - own)


def handler_modules(handler: str) -> list[Path]:
    """The files of this project that a handler needs. Raises ConfigError if there is no such handler."""
    found = modules_needed(_ROOT, f"ddb_lake.lambdas.{handler}")
    if not found:
        known = sorted(path.stem for path in (_ROOT / "lambdas").glob("[a-z]*.py"))
        raise ConfigError(f"no handler {handler!r}; ddb_lake.lambdas has {', '.join(known)}")
    return found


def distributions(modules: Sequence[Path]) -> list[str]:
    """The distributions that the modules import, without those of the Lambda runtime, sorted."""
    return _distributions_of(third_party(modules, _ROOT.name))


def _distributions_of(imported: set[str]) -> list[str]:
    provided = _installed()
    return sorted({_normal(d) for name in imported for d in provided.get(name, [name])} - IN_THE_RUNTIME)


@lru_cache(maxsize=1)
def _installed() -> Mapping[str, list[str]]:
    """The distributions of the environment by the names that they make importable."""
    return metadata.packages_distributions()


def requirements(names: Sequence[str]) -> list[str]:
    """The distributions to package for `names`: themselves and what they require, without extras, sorted."""
    found: set[str] = set()
    waiting = [_normal(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found or name in IN_THE_RUNTIME:
            continue
        found.add(name)
        for line in _distribution(name).requires or ():
            match = _REQUIREMENT.match(line)
            if match and "extra ==" not in line:
                waiting.append(_normal(match[1]))
    return sorted(found)


def _contents(own: Sequence[Path], names: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """The files of this project and of the distributions, with their names in the package."""
    yield from ((str(path.relative_to(_ROOT.parent)), path) for path in own)
    for name in requirements(names):
        distribution = _distribution(name)
        if "Root-Is-Purelib: true" not in (distribution.read_text("WHEEL") or ""):
            raise ConfigError(f"{name} is not pure Python, so its files from this machine do not fit Lambda's")
        for file in distribution.files or ():
            if not _LEFT_OUT.search(str(file)) and ".." not in file.parts:
                yield str(file), Path(str(file.locate()))


def _write(target: Path, files: dict[str, Path]) -> None:
    unfinished = target.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as package:
        for name, path in files.items():
            entry = zipfile.ZipInfo(name, _MOMENT)
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3  # as made on Unix, wherever it was made
            package.writestr(entry, path.read_bytes())
    unfinished.replace(target)


def _distribution(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise ConfigError(
            f"{name} is not installed", hint="install the extras: pip install '.[lambdas,aurora]' in a checkout"
        ) from error


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
