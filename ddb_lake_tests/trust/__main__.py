"""Runs the tests that the guarantees depend on and prints the figures. See the package's docstring."""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ddb_lake_tests.support.samples import PUBLISHED
from ddb_lake_tests.trust import recording
from ddb_lake_tests.trust.follow_soaking import FollowSoak, follow_soak
from ddb_lake_tests.trust.fuzzing import Fuzzed, fuzz
from ddb_lake_tests.trust.losing import run as lose_records
from ddb_lake_tests.trust.mutating import mutants
from ddb_lake_tests.trust.naming import try_names
from ddb_lake_tests.trust.parsing import feed
from ddb_lake_tests.trust.readers import Compared, compare
from ddb_lake_tests.trust.soaking import Soak, soak

HERE = Path(__file__).parent
HISTORIES = ("ddb_lake_tests/integration/test_histories.py", "ddb_lake_tests/pipeline/merge/test_expired_items.py")


def test_modules() -> list[str]:
    """Modules with tests that inject faults, and those of hostile input, names and secrets."""
    modules = [name.replace(".", "/") + ".py" for name in recording.MODULES]
    others = sorted(str(p.relative_to(recording.ROOT)) for p in HERE.glob("test_*.py") if p.name != "test_page.py")
    return list(dict.fromkeys([*modules, *others]))


def run_tests() -> tuple[int, dict[str, bool], int]:
    """Every test of `test_modules`.

    Gives pytest's exit status, which marked tests passed, and how many times such a test was run.
    """
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record"
        options = ("--effort", "all", "-p", recording.__name__)
        status = run_pytest(*test_modules(), *options, environment={recording.RECORD: str(record)})
        found = json.loads(record.read_text())
    return status, found["passed"], found["runs"]


def run_exhaustive() -> int:
    """The exhaustive tests of all other modules, with the most cases and random examples; pytest's exit status."""
    elsewhere = [option for module in (*test_modules(), *HISTORIES) for option in ("--ignore", module)]
    return run_pytest("ddb_lake_tests", "--effort", "most", *elsewhere, environment={})


def run_histories(examples: int) -> int:
    """Histories of Hypothesis in any order and grouping; pytest's exit status."""
    return run_pytest(*HISTORIES, "--effort", "all", environment={"DDB_LAKE_HISTORIES": str(examples)})


def run_features() -> int:
    """Every ordered pair of the features that act on the same data, each with its return; the exit status."""
    command = [sys.executable, "-m", "ddb_lake_tests.support.features", "--pairs"]
    return subprocess.run(command, cwd=recording.ROOT, check=False).returncode


def run_pytest(*arguments: str, environment: dict[str, str]) -> int:
    """Pytest in a process of its own, at the root."""
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    return subprocess.run(command, cwd=recording.ROOT, env={**os.environ, **environment}, check=False).returncode


def figures(done: Soak) -> str:
    """A soak in one line."""
    hours = done.seconds_of_history / 3600
    return (
        f"{done.histories} histories of {hours:.0f} hours and {done.changes} changes, {done.stages} stages in bad times,"
        f" {done.faults.total()} faults met, {done.refused} refusals, {len(done.differences)} differences"
    )


def told(done: Soak) -> None:
    """One line a history, as it ends."""
    print(figures(done), flush=True)
    for difference in done.differences[:10]:
        print(f"  {difference}", flush=True)


def print_follow_soak(done: FollowSoak) -> None:
    """The figures after each comparison."""
    print(done.line(), flush=True)
    for name in ("faults", "failed_calls", "refused"):
        print(f"  {name}: {dict(getattr(done, name))}", flush=True)
    print(f"  memory (s of age, MB): {done.memory_mb}", flush=True)
    print(
        f"  memory of a follower that was not ended, each minute, MB: {done.spared_mb}, x {done.growth:.2f}", flush=True
    )
    for difference in done.differences[:10]:
        print(f"  {difference}", flush=True)


def compare_paths(seed: int, *, count: int | None = None, minutes: float | None = None) -> Fuzzed:
    """The fast path against reading with all checks; says how far it is each minute, and prints what differs."""
    said, shown = time.monotonic(), 0

    def say(found: Fuzzed) -> None:
        nonlocal said, shown
        if time.monotonic() - said > 60:
            said = time.monotonic()
            print(found.line(), flush=True)
        faults = [*found.differences, *found.unexpected]
        for key, data in faults[shown:]:
            print(f"  key {', '.join(key) or 'not configured'}: {data[:4000]!r}", flush=True)
        shown = len(faults)

    return fuzz(seed, count=count, seconds=None if minutes is None else minutes * 60, progress=say)


def compare_readers(seed: int, *, count: int | None = None, minutes: float | None = None) -> Compared:
    """The reader of exports against that of changes; prints progress each minute, and what differs."""
    printed, shown = time.monotonic(), 0

    def report(found: Compared) -> None:
        nonlocal printed, shown
        if time.monotonic() - printed > 60:
            printed = time.monotonic()
            print(found.line(), flush=True)
        for difference in found.differences[shown:]:
            print(f"  {difference[:4000]}", flush=True)
        shown = len(found.differences)

    return compare(seed, count=count, seconds=None if minutes is None else minutes * 60, progress=report)


def main() -> int:
    """Run everything, or a soak or the fuzzer alone; 1 if anything was lost, doubled, resurrected, or failed."""
    parser = argparse.ArgumentParser(prog="python -m ddb_lake_tests.trust", description=__doc__)
    parser.add_argument(
        "what", nargs="?", choices=("all", "soak", "follow-soak", "fuzz", "names", "losses"), default="all"
    )
    parser.add_argument(
        "--minutes", type=float, default=0.5, help="of the soaks, names, and each of fuzz's two comparisons"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the soak's first history, and of the fuzzer")
    parser.add_argument("--histories", type=int, default=60, help="of Hypothesis, and of losses")
    parser.add_argument("--mutants", type=int, default=3_000, help="spoiled inputs for every parser")
    parser.add_argument("--write", action="store_true", help="write the table of faults into the documentation")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)  # handlers log each record that they refuse
    if chosen.what == "soak":
        done = soak(chosen.minutes * 60, chosen.seed, told)
        return int(bool(done.differences))
    if chosen.what == "follow-soak":
        followed = follow_soak(chosen.minutes * 60, chosen.seed, print_follow_soak)
        return int(bool(followed.differences))
    if chosen.what == "fuzz":
        compared = compare_paths(chosen.seed, minutes=chosen.minutes)
        print(compared.line(), flush=True)
        readers = compare_readers(chosen.seed, minutes=chosen.minutes)
        print(readers.line())
        return int(bool(compared.differences or compared.unexpected or readers.differences))
    if chosen.what == "names":
        tried = try_names(
            chosen.seed, seconds=chosen.minutes * 60, progress=lambda found: print(found.line(), flush=True)
        )
        for seed, difference in tried.differences:
            print(f"  seed {seed}: {difference}")
        return int(bool(tried.differences))
    if chosen.what == "losses":
        losses = lose_records(
            range(chosen.seed, chosen.seed + chosen.histories), lambda found: print(found.line(), flush=True)
        )
        print(*losses.unexplained, sep="\n")
        return int(bool(losses.false_breaks or losses.wrongly_named or losses.unexplained))
    started = time.monotonic()
    failed, passed, runs = run_tests()
    failed |= run_exhaustive()
    failed |= run_histories(chosen.histories)
    failed |= run_features()
    fuzzed = sum(1 for data in mutants(chosen.seed, chosen.mutants) if feed(data) >= 0)
    compared = compare_paths(chosen.seed, count=chosen.mutants)
    failed |= bool(compared.differences or compared.unexpected)
    readers = compare_readers(chosen.seed, count=chosen.mutants)
    failed |= bool(readers.differences)
    tried = try_names(chosen.seed, seconds=chosen.minutes * 60, progress=lambda _: None)
    failed |= bool(tried.differences)
    done = soak(chosen.minutes * 60, chosen.seed)
    found = list(recording.covered())
    if chosen.write:
        recording.PAGE.parent.mkdir(parents=True, exist_ok=True)
        recording.PAGE.write_text(recording.page(found, passed), encoding="utf-8")
    kinds = len({one.fault for one in found})
    corpus = (
        "published and own samples and the simulator's objects"
        if PUBLISHED.is_dir()
        else "our samples and the simulator's objects"
    )
    print(f"\nfaults      {kinds} kinds, {runs} tests, {sum(not ok for ok in passed.values())} failed")
    print(f"histories   {chosen.histories + max(chosen.histories // 4, 1)} of Hypothesis, and the corners")
    print(f"soak        {figures(done)}")
    print(f"fuzzed      {fuzzed} inputs spoiled from {corpus}, no crash, no hang")
    print(f"fast path   {compared.line()}")
    print(f"readers     {readers.line()}")
    print(f"names       {tried.line()}")
    verdict = "0 lost, 0 doubled, 0 resurrected" if not failed and not done.differences else "NOT EXACT: see above"
    print(f"result      {verdict}; {time.monotonic() - started:.0f} s", flush=True)
    return int(bool(failed or done.differences))


if __name__ == "__main__":
    sys.exit(main())
