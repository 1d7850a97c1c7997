"""MPEG-1, MPEG-2 and MPEG-4 Part 2 video: its headers, and the pictures of elementary streams."""
