"""Movie fragments (ISO/IEC 14496-12 §8.8): initialization segments, ``moof``, ``sidx`` and ``emsg``."""
