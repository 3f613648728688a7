"""Names of objects, folders and tables: what AWS writes, and what this project writes; and whether two locations are the same."""
