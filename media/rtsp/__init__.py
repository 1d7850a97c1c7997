"""RTSP 1.0 messages (RFC 2326)."""
