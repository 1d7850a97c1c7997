"""A running server: its sockets, services, lists, health and metrics."""
