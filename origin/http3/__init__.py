"""HTTP/3 on the connection (RFC 9114), over QUIC by the library aioquic."""
