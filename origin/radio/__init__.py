"""Radio: one source, many listeners."""
