"""Several event channels over one connection: ``GET /events?channel=a&channel=room/*``.

`positions` writes and reads the ids, each of which has the position in all channels. `merged_reader` has the
channels of one connection, and gathers their events, which `reading` and `websocket_endpoint` write.
"""
