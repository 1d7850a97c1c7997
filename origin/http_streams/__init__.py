"""Requests that share a connection, as HTTP/2 and HTTP/3 have them, and the order of their answers."""
