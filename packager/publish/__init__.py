"""Makes playlists and manifests of live windows; media.hls and media.dash write their syntax.

``live_stream`` folds a channel's log, and is all that the serving side needs; ``channel_commands`` are sent
to the process that makes the channel.
"""
