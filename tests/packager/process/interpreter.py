"""A Python as the program in a sandbox, which tries what a test tells it."""

from __future__ import annotations

import os
import sys

PYTHON = os.path.realpath(sys.executable)


RUNTIME = (sys.base_prefix, os.path.dirname(PYTHON))


LONGEST_SECONDS = 120.0
"""How long a program may take: the machine may be slow."""
