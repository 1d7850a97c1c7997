"""Channels, stations and relays that come, change and go with their tables while the server runs."""
