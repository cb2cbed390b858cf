"""Errors that a user can cause and mend.

The commands print such an error as one line and exit with its `exit_status`; every other exception is a bug
of ours and keeps its traceback. The message says what was expected, what came, and what to do.
"""


class UserError(Exception):
    """Base of the errors shown without a traceback."""

    exit_status = 1


class UsageError(UserError):
    """The command line or the configuration asks for something that does not exist or does not fit."""

    exit_status = 2


class DataError(UserError):
    """A file or folder is missing, unreadable, damaged, or not what it should be."""

    exit_status = 1
