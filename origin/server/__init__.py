"""One running server: its sockets, its services, its lists, health and metrics."""
