"""Replication of logs between the machines of a cluster over Redis, with an owner for each log.

Live channels and stations have an owner (`lease`). Event channels have none: Redis numbers what any
node publishes (`event_streams`).
"""
