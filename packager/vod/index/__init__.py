"""The index of a film: its tracks, segment boundaries and chapters, and the bounded cache of all indexes."""
