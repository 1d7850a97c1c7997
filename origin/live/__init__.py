"""Live channels over HTTP."""
