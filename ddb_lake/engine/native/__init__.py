"""The record kernel: an optional accelerator, in C, of reading change objects and items.

`record_kernel.c` reads the most frequent records into Arrow columns, and items into columns of known attributes. `library` loads
what a compiler made of it; `reader` reads records by it, and `items` items. Without the library records are read in Python and
items in SQL, and the rows are the same; only the time differs.
"""
