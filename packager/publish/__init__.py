"""What playlists and manifests say of live windows; how they are written is in media.

``live_stream`` folds a channel's log and is all that whoever serves the channel has in hand; ``commands`` is
what a request may cause at whoever makes it.
"""
