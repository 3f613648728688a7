"""Benchmarks: programs that run us and our peers in turn, in one run, and print medians and ratios.

make bench             full size; takes hours
make bench SIZE=small  some minutes, to keep the programs working

`python -m ddb_lake_tests.benchmarks --help` says how to run a part, choose its sizes, keep the inputs, or write the
documentation's page. `…benchmarks.transform`, `.verify`, `.tables`, `.spark` and `.wide` measure those parts alone.
"""
