"""TLS of the server's own: its certificates, and the transport of an encrypted connection."""
