"""What a capture of changes delivered, missed, and has to read next."""
