"""The findings of `ddb-lake doctor`."""
