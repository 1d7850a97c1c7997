"""Carries logs between the machines of a cluster over Redis: who appends to each, and who follows it.

Live channels and stations have an owner (`lease`). Event channels have none: Redis numbers what any
node publishes (`event_streams`).
"""
