"""RTSP 1.0 and 2.0 messages (RFC 2326, RFC 7826)."""
