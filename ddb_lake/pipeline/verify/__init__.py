"""Verification compares the lake with its source, key by key, and repairs keys that differ.

How it works:

1. `sample` and `full` read items of the source: some by their keys, or all from an export or a scan. They call
   `compare.compare_keys` with these items and the time span in which they were read.
2. `compare` takes the lake's rows as `dump` writes them, compares both as canonical JSON, and collects the evidence of
   each key that differs: the item that exports and records alone give (`pipeline.read.replay`), and the key's records.
3. `core.verify.verdicts.judge` decides from the evidence whether the difference is a fault, and its kind. A change
   that happened while the source was read is no fault: its key counts as *explained*.
4. `pipeline.read.verification_report` is the result. The last report of each table is stored in the warehouse.
5. `repair` reads the faulty keys again, lands what the source has as lines of their own envelope, and applies them.

Public functions: `full.expected_cost`, `full.verify_counts`, `full.verify_export`, `full.verify_scan`,
`sample.verify_sample`, `repair.repair_from_source` and `repair.repair_from_export`; and those of the report: `keep_report`,
`last_report` and `keys_of`. Only `keep_report` and the repairs write.

Kinds of differences (`core.verify.verdicts.DifferenceKind`):

| kind | meaning |
| --- | --- |
| `missing` | the source has the item, the lake does not |
| `extra` | the lake has an item that the source does not have |
| `stale` | the lake has an older image of the item |
| `wrong` | the lake has an image that no record and no export has |
| `doubled` | the lake has several rows of the key |

The cause is `current` if the rows differ from what the lake's own records give, and `records` if records are missing. A
difference is certain if no change under way can explain it. A report is `equal` without differences, `in doubt` if none of
them is certain, and `different` otherwise.

Verification must not share code with what it verifies: a fault of the projection would make both sides equal. It reads
items by `core.verify.equality` alone, and an import contract in `pyproject.toml` forbids the modules that load and project.
"""
