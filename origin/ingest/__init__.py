"""Publishers of live channels: who is let in, and the protocols by which streams come."""
