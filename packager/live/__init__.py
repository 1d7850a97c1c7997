"""Live channels: one encoder's output as parts, segments and playlists."""
