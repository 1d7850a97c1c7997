"""A live channel on air: its plan, its encoders and their restarts, gaps, captions and events."""
