"""Errors that end a command."""


class CommandError(Exception):
    """A command failed; the text is one line that says why, or what to do."""
