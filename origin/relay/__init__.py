"""Relays of token streams: one request to an OpenAI-compatible server, whose answer all readers get."""
