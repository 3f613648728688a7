"""MySQL-compatible databases (Aurora, MySQL, MariaDB) as a sink, and the only home of PyMySQL.

There are two ways to write a table. `replication` makes a table equal to the lake's `current`, and `comparison` compares the two.
`change_files` loads the CSV files that the Lambda function `validate` writes. Both write through `statements` (SQL as text) and
`connection`. The command, the settings and the asset are called `aurora`.
"""
