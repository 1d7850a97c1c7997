"""Tracks, sample tables and edit lists of a film's file in any container, and its version in addresses."""
