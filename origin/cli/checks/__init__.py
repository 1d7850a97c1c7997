"""Rules of ``headwater check`` for playlists, manifests and segments: texts and bytes in, findings out."""
