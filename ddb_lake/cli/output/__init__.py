"""Output of commands: tables, JSON, CSV, quantities, progress."""
