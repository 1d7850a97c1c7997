"""Relays of token streams: one request to an OpenAI-compatible server, whose answer all readers get.

`sse_reader` parses what such a server sends, `upstream` asks it, `completion_request` says what callers may
ask for. `completion` relays the answer to one request to its readers, `relay` has all requests of one event
channel; `routes` are the addresses, which the `openai` package can use as they are.
"""
