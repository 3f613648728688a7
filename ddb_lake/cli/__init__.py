"""The command line `ddb-lake`: click commands over the stages.

Results go to stdout; progress, warnings and errors to stderr. Exit status 0: done; 1: a check failed or data is in
doubt; 2: wrong use. Importing this package imports click and little else: `app` loads a command's module when the
command is asked for, and a command imports its stage when it runs.
"""

from ddb_lake.cli.app import main

__all__ = ["main"]
