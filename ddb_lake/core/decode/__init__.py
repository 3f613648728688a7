"""The bytes of a landed object, decoded into change records."""
