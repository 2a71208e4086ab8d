"""Options of the service."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_serve.service.jobs import JobLimits


class ForbiddenError(UsageError):
    """The configuration does not allow the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """Options of the service.

    Args:
        token: bearer token that clients need; empty: none.
        roots: folders below which clients may name files; empty: uploads alone.
        sources: addresses that clients may have watched, and what lies below them; empty: no streams.
        upload_bytes: largest upload.
        limits: of jobs.
        num_workers: processes that decode and score.
        num_threads: of the network in each; None: all cores.
        num_streams: streams at a time.
        grace_seconds: how long running jobs may take when the service stops.
    """

    token: str = ""
    roots: tuple[Path, ...] = ()
    sources: tuple[str, ...] = ()
    upload_bytes: int = 2_000_000_000
    limits: JobLimits = field(default_factory=JobLimits)
    num_workers: int = 1
    num_threads: int | None = None
    num_streams: int = 4
    grace_seconds: float = 30.0

    def admits(self, authorization: str) -> bool:
        """Return whether an Authorization header admits a client; the comparison takes constant time."""
        wanted = f"Bearer {self.token}".encode()
        return not self.token or hmac.compare_digest(authorization.encode(), wanted)

    def allowed_path(self, text: str) -> Path:
        """Return a file that a client named.

        Raises:
            ForbiddenError: it is not below a root, also where links lead.
        """
        path = Path(text).resolve()
        if not any(path.is_relative_to(root.resolve()) for root in self.roots) or not path.is_file():
            raise ForbiddenError(
                f"path {text!r}: no file below a folder that the service was allowed (--root)"
            )
        return path

    def allowed_source(self, source: str) -> str:
        """Return an address that a client named.

        Raises:
            ForbiddenError: it does not begin as an allowed one.
        """
        if not any(source == one or source.startswith(one.rstrip("/") + "/") for one in self.sources):
            raise ForbiddenError("source: not below an address that was allowed with --source")
        return source
