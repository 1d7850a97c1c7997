"""A server on its machine: sockets, descriptors, privileges, memory, and the event loop's lag."""
