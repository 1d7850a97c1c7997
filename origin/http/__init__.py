"""Decisions of HTTP without I/O: ranges, preconditions, credentials, proxies, compression."""
