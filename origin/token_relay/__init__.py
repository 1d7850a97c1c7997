"""Relays of token streams: one request to an OpenAI-compatible server is answered to many readers.

`sse_reader` parses such a server's stream, `upstream` sends it requests, `completion_request` checks the
requests of callers, `dialects` has what differs between the APIs. `completion` relays the answer to one
request to its readers, `relay` has all requests of one relay, and `answer_channels` the event channels in
which answers are kept. `routes` are the addresses, which the `openai` package can use unchanged;
`answer_routes` are those of answers that are kept.
"""
