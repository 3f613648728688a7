"""Iceberg tables: create, plan, commit, maintain. The only home of pyiceberg."""
