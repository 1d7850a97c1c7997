"""Event channels: one producer, many readers, of text."""
