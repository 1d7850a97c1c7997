"""The date ranges of a DVR: writes them beside its segments as they come, off the event loop."""
