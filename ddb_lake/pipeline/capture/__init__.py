"""Reading and monitoring the capture of changes: streams, incremental exports, gaps, health."""
