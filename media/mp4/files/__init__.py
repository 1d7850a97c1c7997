"""Whole MP4 files: the search for ``moov``, its move to the front, and heads of progressive files."""
