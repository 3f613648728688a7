"""This deployment's own definitions; not part of the library."""
