"""The record kernel: an optional accelerator, in C, of reading change objects.

`record_kernel.c` reads the most frequent records into Arrow columns. `library` loads what a compiler made of it, `reader` calls it.
Without the library every record is read in Python, and the staged rows are the same; only the time differs.
"""
