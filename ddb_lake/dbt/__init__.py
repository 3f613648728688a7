"""dbt over the lake: the plugin through which dbt-duckdb sees its tables, and the models written from its schemas.

Nothing here is imported unless dbt is used; only `plugin` needs dbt itself.
"""
