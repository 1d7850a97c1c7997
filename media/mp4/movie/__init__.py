"""The ``moov`` box (ISO/IEC 14496-12 §8): tracks and sample tables, read and written."""
