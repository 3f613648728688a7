"""ddb_lake."""
