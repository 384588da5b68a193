"""The errors a user can act on: each says what was given, what was expected and which option mends it."""


class PrngeoError(Exception):
    """A run failed. The message is one paragraph, written for the person who started it."""

    exit_code = 1


class UsageError(PrngeoError, ValueError):
    """The call was wrong: an argument, option or input file has to be changed before it can run."""

    exit_code = 2


class ReadError(PrngeoError):
    """A window of an input could not be read; trying again may help."""


class Cancelled(KeyboardInterrupt):
    """The program that started the run has given it up: nothing unfinished is kept."""
