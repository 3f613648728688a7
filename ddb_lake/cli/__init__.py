"""The command line `ddb-lake`: click commands over the pipeline.

Results go to stdout; progress, warnings and errors to stderr. Exit status 0: done; 1: a check failed or data is in
doubt; 2: wrong use. Importing this package imports little more than click: `app` imports a command's module when the
command is run, and a command imports its pipeline step inside its function. This keeps `--help` fast.
"""

from ddb_lake.cli.app import main

__all__ = ["main"]
