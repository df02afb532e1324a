"""The error that a user can mend by reading it."""


class UserError(Exception):
    """Something given to the package is wrong; the message says what, and what to do.

    The command-line tools print it as one line, without a traceback.
    """
