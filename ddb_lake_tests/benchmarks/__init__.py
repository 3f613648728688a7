"""Benchmarks: programs that run us and a peer in turn, in one run, and print medians and ratios.

make bench             full size: 1 M and 10 M items, 100 k changes
make bench SIZE=small  a few seconds, to keep the programs working
"""
