"""Requests, replies and replies that come later, as handlers of every room know them, whatever the wire."""
