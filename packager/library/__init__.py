"""The library: its files, opened safely, and the list of what they are."""
