"""Writing results, progress and errors."""
