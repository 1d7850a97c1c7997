"""Event channels: one producer, many readers, of text.

`channel` publishes and says who may come in; `log` numbers events and keeps the newest in a ring; `readers`
writes them to all connections in frames, as SSE, NDJSON or WebSocket (`formats`), and knows none of HTTP.
`history` keeps events on disk (`history_files`), from where `log` has those of earlier lives again.
`reading`, `sockets` and `publishing` are the addresses. A relay of token streams is one more producer: it
calls `begin`, publishes what its upstream sends, and calls `end`; when the last of the `readers` has left, it
asks upstream for no more. A page sees the channels in `/api/events` and reads them as everybody does.
"""
