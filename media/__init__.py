"""What the bytes mean: boxes, fragments, codec strings, playlists, audio frames. No I/O, no clock."""
