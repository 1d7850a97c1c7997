"""Requests for what a live channel has: their addresses and times, what they wait for, and media from the DVR."""
