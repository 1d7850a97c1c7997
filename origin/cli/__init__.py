"""The commands ``headwater serve``, ``package`` and ``check``."""
