"""Playlists and manifests of what is over: recordings, and spans of the DVR. Pure."""
