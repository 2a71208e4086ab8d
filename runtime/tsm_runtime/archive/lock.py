"""A lock on an output folder, so that two runs of the same videos do not write to it at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tsm_runtime.archive.shard import Shard
from tsm_runtime.errors import RunError, UsageError

try:
    import fcntl
except ImportError:  # Windows: no lock; users must avoid two runs in one folder
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(folder: Path, shard: Shard) -> Iterator[None]:
    """Hold the lock of a shard of an output folder while the block runs.

    Runs of different shards share the folder; a run without shards locks it exclusively. The system releases
    the lock when the process ends for any reason.

    Args:
        folder: existing folder of the run's records.
        shard: the share of this run.

    Raises:
        UsageError: another run holds the lock.
        RunError: the lock cannot be created.
    """
    with ExitStack() as held:
        alone = shard.count == 1
        held.enter_context(_flock(folder / "lock", exclusive=alone))
        if not alone:
            held.enter_context(_flock(folder / f"lock{shard.suffix}", exclusive=True))
        yield


@contextmanager
def _flock(path: Path, *, exclusive: bool) -> Iterator[None]:
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunError(f"cannot lock {path.parent.parent}: {error.strerror}") from error
    try:
        if fcntl is not None:
            fcntl.flock(number, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UsageError(
            f"{path.parent.parent}: another tsm-run writes to this folder; wait for its end, take another"
            " folder, or give each run a share of its own (--shard 1/2 and --shard 2/2)"
        ) from error
    finally:
        os.close(number)
