"""The endpoints of the server itself: player page, lists, health, metrics and error responses."""
