"""Errors that a user can cause, with the exit codes of the commands."""

from __future__ import annotations


class TsmError(Exception):
    """Base of all expected errors; the message has one or two lines and names the next step."""

    exit_code = 1


class UsageError(TsmError):
    """Wrong flags, configuration or annotation file."""

    exit_code = 2


class VideoError(TsmError):
    """Video without a result: unreadable, without pictures, or shorter than one interval."""

    exit_code = 3


class BundleError(TsmError):
    """Unusable bundle: missing or altered file, unknown key, newer format."""

    exit_code = 4


class BackendError(TsmError):
    """The requested backend or export target is not available on this machine."""

    exit_code = 5


class CheckError(TsmError):
    """A required comparison failed (export against PyTorch, verification)."""

    exit_code = 6


class RunError(TsmError):
    """Aborted run: NaN loss, full disk, dead worker."""

    exit_code = 7


class OutOfMemoryError(RunError):
    """A backend has no memory for a batch of this size; a smaller batch may fit."""
