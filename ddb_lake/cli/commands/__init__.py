"""The commands of `ddb-lake`, one module each."""
