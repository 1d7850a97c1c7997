"""Event channels over gRPC: an extra (``headwater[grpc]``), which is imported only where it is configured.

`server` listens, `calls` turns each call into a request to the application and the reply into messages and a
status, and `messages` has the classes of `events.proto`.
"""
