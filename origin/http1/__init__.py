"""HTTP/1.1 on a connection: reading requests, answering them on the fast path or by ASGI, and sending."""
