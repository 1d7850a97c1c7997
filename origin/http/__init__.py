"""Decisions of HTTP without I/O: ranges, preconditions, trusted proxies, limits per client, compression."""
