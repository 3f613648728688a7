"""The order that decides which record of a key wins."""
