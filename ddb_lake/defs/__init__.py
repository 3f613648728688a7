"""The components of this deployment (see `ddb_lake.definitions`): the demo's lake. Not part of the library."""
