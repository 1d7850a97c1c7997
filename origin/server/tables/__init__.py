"""Tables of the configuration that come, change and go while the server runs, by its file and by requests."""
