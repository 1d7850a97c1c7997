"""The server for clients and publishers: HTTP, RTMP and SRT, workers, configuration, the command line."""
