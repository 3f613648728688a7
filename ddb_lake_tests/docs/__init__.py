"""The documentation: its blocks, its reference, its site."""
