"""HTTP: routes, ranges, waits, mounts, configuration and the command line."""
