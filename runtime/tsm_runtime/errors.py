"""Every error a user can cause, each with the exit code of the command that meets it."""

from __future__ import annotations


class TsmError(Exception):
    """Base of all expected errors: the message is one or two lines that name the next step."""

    exit_code = 1


class UsageError(TsmError):
    """Wrong flags, configuration or annotation file."""

    exit_code = 2


class VideoError(TsmError):
    """A video that gives no result: unreadable, without pictures, or shorter than one interval."""

    exit_code = 3


class BundleError(TsmError):
    """A bundle that cannot be used: missing or altered file, unknown key, newer format."""

    exit_code = 4


class BackendError(TsmError):
    """The asked backend or export target is not available on this machine."""

    exit_code = 5


class CheckError(TsmError):
    """A comparison that had to hold does not (export against PyTorch, verification)."""

    exit_code = 6


class RunError(TsmError):
    """A run that broke off: NaN loss, full disk, a worker that died."""

    exit_code = 7


class OutOfMemoryError(RunError):
    """A backend has no memory for a batch of this size; a smaller one may fit."""
