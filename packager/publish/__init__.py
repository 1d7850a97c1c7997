"""Makes playlists and manifests of live windows; media.hls and media.dash write their syntax.

``live_stream`` folds a channel's log and is all that whoever serves the channel has in hand;
``channel_commands`` is what a request may cause at whoever makes it.
"""
