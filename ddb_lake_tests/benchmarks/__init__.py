"""Benchmarks: programs that run us and our peers in turn, in one run, and print medians and ratios.

make bench             full size; takes half an hour
make bench SIZE=small  a minute, to keep the programs working

`python -m ddb_lake_tests.benchmarks --help` says how to run a part, keep the inputs, or write the documentation's page.
`…benchmarks.transform`, `.verify`, `.tables` and `.spark` measure those parts alone.
"""
