"""Tests as a specification, by the program's own rooms and by who uses it."""

import os

# As the program does, and before anything imports numpy: threads of an algebra that nobody uses cost more
# processor time than all else of that import.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
