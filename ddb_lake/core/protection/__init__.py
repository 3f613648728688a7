"""Which items and values of a source a lake has: rules of protected attributes (`rules`), and filters by the key (`key_filter`). Pure."""
