"""The media library: safe access to its files, and a list of them."""
