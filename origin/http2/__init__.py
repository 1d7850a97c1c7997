"""HTTP/2 (RFC 9113): many requests on one connection, answered as on HTTP/1.1."""
