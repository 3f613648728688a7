"""Work of tables with `engine: spark` as jobs of their own, launched by Dagster Pipes."""
