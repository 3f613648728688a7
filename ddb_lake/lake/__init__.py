"""Iceberg tables: create, plan, commit, maintain. The only home of pyiceberg.

The import fails with ConfigError if pyiceberg has a version that is not known to work.
"""

from pyiceberg import __version__

from ddb_lake.lake.pyiceberg_version import check_version

check_version(__version__)
