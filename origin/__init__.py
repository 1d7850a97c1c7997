"""What clients and publishers connect to: HTTP, RTMP and SRT, workers, configuration, the command line."""
