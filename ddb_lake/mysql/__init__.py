"""MySQL-compatible databases (Aurora, MariaDB) as a sink. The only home of PyMySQL."""
