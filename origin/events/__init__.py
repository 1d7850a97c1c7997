"""Event channels: one producer, many readers, of text.

`channel` publishes, and admits readers; `event_log` numbers events, keeps the newest in a ring, and finds the
position of a reader by its Last-Event-ID. `delivery` writes them to all connections in frames, as SSE, NDJSON
or WebSocket (`formats`), independently of HTTP. `disk_history` keeps events on disk (`history_files`), from
which `event_log` restores those of earlier epochs. `reading` (GET), `websocket_endpoint` (WebSocket) and
`publishing` (POST) answer requests at the address of a channel.

In a cluster Redis numbers the events: `cluster_channels` makes a `shared_event_channel` for each channel,
which publishes through Redis, and reads the events of all nodes.

A relay of token streams is one more producer: it calls `begin`, publishes the tokens of its upstream, and
calls `end`; when the last reader has left, it cancels its request. The page lists the channels by
`/api/events`, and reads them as any client.
"""
