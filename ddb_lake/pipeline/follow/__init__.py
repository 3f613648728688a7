"""Following tables: a process that keeps reading changes, lands them, and applies them within seconds."""
