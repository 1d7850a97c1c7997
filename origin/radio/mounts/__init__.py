"""Mounts: a station's audio on its way to the listeners, its titles, and its log for other processes."""
