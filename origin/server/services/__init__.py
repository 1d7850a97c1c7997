"""The services of a server, made from its configuration: library, live channels, stations, event channels."""
