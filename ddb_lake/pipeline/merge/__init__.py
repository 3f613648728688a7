"""The changelog into `current`."""
