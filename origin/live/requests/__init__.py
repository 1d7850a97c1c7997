"""Requests for what a live channel has: their addresses and times, what they wait for, media of its DVR."""
