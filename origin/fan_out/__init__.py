"""One ring of immutable blocks and many readers: what radio, event channels and other feeds share."""
