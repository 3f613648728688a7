"""The HTML report of a lake."""
