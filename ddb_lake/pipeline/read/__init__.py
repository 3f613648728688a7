"""Reading the lake: queries, dumps, replays, status."""
