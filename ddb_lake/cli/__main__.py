"""`python -m ddb_lake.cli`, the same as `ddb-lake`."""

from ddb_lake.cli.app import main

main()
