"""Cuts live media into parts and segments: on a grid, or at the source's own key frames."""
