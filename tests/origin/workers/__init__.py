"""Tests of the processes that serve beside the started one."""
