"""The Lambda handlers, one thin handler a file over the same pure modules as the stages."""
