"""Carries logs between the machines of a cluster over Redis: who appends to each, and who follows it."""
