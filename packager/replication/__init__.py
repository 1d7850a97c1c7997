"""Replication of channel, station and event logs to the worker processes of the same machine."""
