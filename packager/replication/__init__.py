"""Carries the logs of live channels from the process that makes them to others that serve them."""
