"""Programmes of live channels: named spans of a channel's time, on disk and as date ranges for players."""
