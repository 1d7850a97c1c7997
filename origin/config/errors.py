"""Errors that end a command."""


class CommandError(Exception):
    """The command can't do what it is asked for; the text is one line that says why, or what to do."""
