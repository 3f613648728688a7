"""DynamoDB values: JSON text, numbers, times, change records, and the form in which equal values are equal."""
