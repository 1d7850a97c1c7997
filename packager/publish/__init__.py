"""What playlists and manifests say of live windows; how they are written is in media."""
