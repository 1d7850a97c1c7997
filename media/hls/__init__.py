"""HLS playlists (RFC 8216bis): written, and read."""
