"""MP4 (ISO/IEC 14496-12): boxes, sample tables, fragments, and codec strings."""
