"""Requests to other servers about what happens on live channels and stations."""
