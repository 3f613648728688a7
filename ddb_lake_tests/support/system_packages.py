"""System packages that some tests need: which are installed, how to install the others, and what is skipped without them.

`python -m ddb_lake_tests.support.system_packages` installs by apt-get what is missing, where that is permitted: as root or with
passwordless sudo. `make test` runs it first. Where it is not possible, the tests that need the package are skipped, and pytest
prints one block at its end that states which, why, and the command that installs what they need.

DDB_LAKE_REQUIRE=all   a test that is skipped for any reason fails, and so does an installation that fails (`.ci/run`)
DDB_LAKE_INSTALL=no    install nothing
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REQUIRE: Final = "DDB_LAKE_REQUIRE"
INSTALL: Final = "DDB_LAKE_INSTALL"
FOLDERS: Final = "DDB_LAKE_SYSTEM_FOLDERS"
"""Where programs are searched for after PATH, separated by colons; default: `DEFAULT_FOLDERS` of `/`."""
DEFAULT_FOLDERS: Final = ("usr/sbin", "usr/bin", "usr/local/bin", "usr/libexec", "usr/lib/postgresql/*/bin")
"""Debian installs mariadbd in /usr/sbin, which the PATH of a user may lack, and PostgreSQL in a folder of its version."""
_APT: Final = ("-qq", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20", "-o", "Acquire::Retries=1")
_APT_WITHIN_S: Final = 900
_JAVA_AT_LEAST: Final = 17
"""Spark 4 runs on Java 17 and 21: https://spark.apache.org/docs/latest/#downloading"""


def find_program(*names: str) -> str | None:
    """The path of the first program that is installed, None if there is none."""
    chosen = os.environ.get(FOLDERS, "").split(os.pathsep)
    others = (
        chosen
        if any(chosen)
        else [f for pattern in DEFAULT_FOLDERS for f in sorted(map(str, Path("/").glob(pattern)), reverse=True)]
    )
    folders = os.pathsep.join([os.environ.get("PATH", ""), *others])
    return next(filter(None, (shutil.which(name, path=folders) for name in names)), None)


def find_chromium() -> str | None:
    """The path of the browser: `CHROMIUM`, or the first that is installed."""
    return os.environ.get("CHROMIUM") or find_program("chromium", "chromium-browser", "google-chrome")


def find_java() -> str | None:
    """The Java that `spark-class` starts, if Spark runs on its version."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=os.path.join(home, "bin")) if home else find_program("java")  # noqa: PTH118
    if java is None:
        return None
    shown = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', shown.stderr + shown.stdout)
    return java if version and int(version[1]) >= _JAVA_AT_LEAST else None


def find_mariadb() -> str | None:
    """The path of the server, if the program that makes its data folder is installed too."""
    return find_program("mariadbd") if find_program("mariadb-install-db") else None


def find_postgresql() -> str | None:
    """The path of the server, if the program that makes its data folder is installed too."""
    return find_program("postgres") if find_program("initdb") else None


@dataclass(frozen=True, slots=True)
class SystemPackage:
    """What a test may need beside the Python environment.

    name:    as in `@pytest.mark.needs(name)`
    title:   as in messages
    debian:  alternatives; the first whose packages exist in the distribution is installed
    """

    name: str
    title: str
    find: Callable[[], str | None]
    debian: tuple[tuple[str, ...], ...]

    @property
    def reason(self) -> str:
        """Why a test is skipped."""
        return f"{self.title} is not installed"


PACKAGES: Final = {
    package.name: package
    for package in (
        SystemPackage("mariadb", "MariaDB", find_mariadb, (("mariadb-server-core", "mariadb-client-core"),)),
        SystemPackage("postgresql", "PostgreSQL", find_postgresql, (("postgresql",),)),
        SystemPackage("chromium", "Chromium", find_chromium, (("chromium",),)),
        SystemPackage(
            "java",
            f"Java {_JAVA_AT_LEAST} or later",
            find_java,
            (("openjdk-17-jre-headless",), ("openjdk-21-jre-headless",), ("default-jre-headless",)),
        ),
    )
}


def command(packages: Iterable[SystemPackage]) -> str:
    """The command that installs packages on Debian or Ubuntu."""
    names = " ".join(name for package in packages for name in package.debian[0])
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get update && {sudo}apt-get install -y --no-install-recommends {names}"


def required() -> bool:
    """Whether a skip is a failure."""
    value = os.environ.get(REQUIRE, "")
    if value not in ("", "all"):
        raise ValueError(f"{REQUIRE} is {value!r}; expected `all`, or nothing")
    return value == "all"


def missing() -> list[SystemPackage]:
    """Packages that are not installed."""
    return [package for package in PACKAGES.values() if package.find() is None]


def apt_get() -> tuple[list[str], str]:
    """The start of a command that installs without a prompt, empty if there is none; and why there is none."""
    program = shutil.which("apt-get")
    if os.environ.get(INSTALL) == "no":
        return [], f"{INSTALL}=no"
    if program is None:
        return [], "there is no apt-get"
    if os.geteuid() == 0:
        return [program], ""
    sudo = shutil.which("sudo")
    if sudo is None or subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode != 0:
        return [], "apt-get needs root or passwordless sudo"
    return [sudo, "-n", "env", "DEBIAN_FRONTEND=noninteractive", program], ""


def _run(arguments: Sequence[str]) -> str:
    """Run apt-get; empty if it succeeded, else the last line that it printed."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, env=environment, timeout=_APT_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
    return "" if done.returncode == 0 else lines[-1]


def install(packages: Sequence[SystemPackage]) -> list[str]:
    """Install packages, each by itself so that one that fails does not keep the others out; why some are not installed."""
    apt, impossible = apt_get()
    if not apt:
        return [f"{package.title}: {impossible}" for package in packages]
    titles = ", ".join(package.title for package in packages)
    print(f"Installing by apt-get, for the tests: {titles}", flush=True)
    failed = _run([*apt, *_APT, "update"])
    if failed:
        print(f"apt-get update failed: {failed}", flush=True)
    problems = []
    for package in packages:
        for names in package.debian:
            failed = _run([*apt, *_APT, "install", "-y", "--no-install-recommends", *names])
            if package.find() is not None:
                break
        else:
            problems.append(f"{package.title}: {failed or 'apt-get installed it, and it is not found'}")
    return problems


def main() -> int:
    """Install what is missing; 1 if something is still missing and `DDB_LAKE_REQUIRE=all`."""
    absent = missing()
    problems = install(absent) if absent else []
    for problem in problems:
        print(f"Not installed: {problem}", flush=True)
    if problems and required():
        print(f"{REQUIRE}=all needs them: {command(missing())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
