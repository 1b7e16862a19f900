"""The base of all errors of this package."""


# docs/architecture.md#one-base-for-errors
class RaydistillError(Exception):
    """A failure that the message explains in one line, without a traceback.

    `exit_code` is what a command ends with: 2 for settings or data that cannot be used, 1 for a run that failed.
    """

    exit_code = 1


def one_line(error: BaseException) -> str:
    """Return what an exception says, in one line; its kind before it, unless it is a ValueError or a RuntimeError."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, ValueError | RuntimeError) else f"{type(error).__name__}: {text}"
