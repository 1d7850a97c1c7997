"""Event channels: one producer, many readers, of text.

`channel` publishes and says who may come in; `event_log` numbers events, keeps the newest in a ring, and
finds by a reader's Last-Event-ID where it goes on. `delivery` writes them to all connections in frames, as
SSE, NDJSON or WebSocket (`formats`), and knows none of HTTP. `disk_history` keeps events on disk
(`history_files`), from where `event_log` has those of earlier epochs again. `reading` (GET),
`websocket_endpoint` (WebSocket) and `publishing` (POST) are what the address of a channel answers.

In a cluster Redis numbers the events: `cluster_channels` gives each channel a `shared_event_channel`, which
publishes by way of Redis, and takes what all nodes publish.

A relay of token streams is one more producer: it calls `begin`, publishes what its upstream sends, and calls
`end`; when the last reader has left, it asks upstream for no more. A page sees the channels in `/api/events`
and reads them as everybody does.
"""
