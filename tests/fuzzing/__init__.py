"""Fuzzing of what reads bytes from outside: seeds are damaged, and what is read is held to its promises."""
