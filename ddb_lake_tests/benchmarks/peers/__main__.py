"""One peer's work in a process of its own; prints its figures as JSON, and nothing else: what libraries print to standard
output (DuckDB's progress, Spark's greetings) goes to standard error. Imports are not in `seconds`.
"""

from __future__ import annotations

import json
import os
import sys

from ddb_lake_tests.benchmarks.peers import APPLIES, LOADS


def main(work: str, name: str, source: str, target: str) -> None:
    """Load an export, or prepare a table of one, or apply landed changes to that."""
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if work == "prepare":
        APPLIES[name].prepare(source, target)
        figures = {}
    else:
        figures = LOADS[name](source, target) if work == "load" else APPLIES[name].apply(source, target)
    print(json.dumps(figures), file=answer, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
