"""`tsm-live`: opens the models, writes the events of a stream as lines, and ends on signals."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from types import FrameType

from tsm_runtime.backends.online import ONLINE_MODEL
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.errors import TsmError, UsageError
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.live.events import Discontinuity, Drop, End, Event, Resumption
from tsm_runtime.live.session import DropPolicy, LiveOptions, require_live, watch
from tsm_runtime.live.writer import LineWriter
from tsm_runtime.models.choice import BackendRequest, open_model
from tsm_runtime.models.member import Member, Overrides
from tsm_runtime.models.opening import (
    closing_members,
    load_bundles,
    member_of,
    open_member,
    open_members,
    settings_of,
)
from tsm_runtime.terminal import INTERRUPTED, warn
from tsm_runtime.video.sources import Source, find_source


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRequest:
    """Options of the command; None: not given."""

    sources: tuple[str, ...]
    video_id: str | None = None
    output: str | None = None
    show_open: bool = False
    drop: DropPolicy | None = None
    batch: int | None = None
    timeout: float = 10.0
    reconnect: float = math.inf
    pace: bool = False
    rate: float | None = None
    quiet: bool = False


def run_live(
    request: LiveRequest,
    ensemble: Ensemble,
    backend: BackendRequest,
    overrides: Overrides,
    notice: str | None,
) -> int:
    """Run on a stream until it ends or is stopped; return the exit code.

    0: the stream ended, SIGTERM arrived (as from a service manager; everything is written), or the reader of
    a pipe closed it. 1: the stream was lost for good. 130: SIGINT.

    Raises:
        TsmError: an error that a user can cause.
    """
    if request.video_id is not None and not request.video_id.strip():
        raise UsageError("an empty --id; give a name, or leave it out")
    if len(request.sources) != 1:
        raise UsageError(f"expected one stream, got {len(request.sources)}")
    source = find_source(
        request.sources[0], timeout_seconds=request.timeout, pace=request.pace, rate=request.rate
    )
    bundles = load_bundles(ensemble)
    for bundle in bundles:
        _require_live(bundle, overrides)
    members = open_members(
        ensemble,
        bundles,
        backend,
        overrides,
        lambda bundle, *_: open_live_member(bundle, backend, overrides, quiet=request.quiet),
    )
    with closing_members(members):
        return _write_lines(source, members, _options(request, ensemble, bundles), request, notice)


def _options(request: LiveRequest, ensemble: Ensemble, bundles: Sequence[Bundle]) -> LiveOptions:
    options = LiveOptions(
        show_open=request.show_open,
        drop=request.drop,
        reconnect_seconds=request.reconnect,
        min_score=ensemble.min_score if len(bundles) == 1 else 0.0,
        fusion=ensemble.options,
        bundles=tuple(bundle.manifest_sha256 for bundle in bundles),
        video_id=request.video_id or "",
    )
    return options if request.batch is None else replace(options, batch_size=request.batch)


def _require_live(bundle: Bundle, overrides: Overrides) -> None:
    spec, rules = settings_of(bundle, overrides)
    try:
        require_live(spec, rules)
    except UsageError as error:
        raise UsageError(f"{error} (model {bundle.path})") from error


def open_live_member(
    bundle: Bundle, request: BackendRequest, overrides: Overrides | None = None, *, quiet: bool = False
) -> Member:
    """Open the online model of a bundle, or another one if the bundle has none or the request names one.

    If windows overlap, the clip-wise model is opened: an online model would get each frame several times.
    """
    spec, _ = settings_of(bundle, overrides)
    named = (request.backend, request.precision) != ("auto", None)
    if ONLINE_MODEL not in bundle.manifest.files or named or spec.num_open > 1:
        return open_member(bundle, request, overrides)
    if not quiet:
        warn(f"{bundle.path / ONLINE_MODEL} runs, one frame per call; --precision fp32 takes whole clips")
    return member_of(bundle, open_model(bundle, ONLINE_MODEL, num_threads=request.num_threads), overrides)


def _write_lines(
    source: Source,
    members: Sequence[Member],
    options: LiveOptions,
    request: LiveRequest,
    notice: str | None,
) -> int:
    if notice:
        warn(notice)
    stop, ended = threading.Event(), None
    with LineWriter(request.output) as writer, _signals(stop) as signals:
        writer.stop_when_unread(stop)
        try:
            with closing(watch(source, members, options, stop=stop)) as events:
                for event in events:
                    writer.write(event)
                    ended = event if isinstance(event, End) else ended
                    if not request.quiet:
                        _warn_of(source, event)
        except BrokenPipeError:
            return 0  # the reader has closed the pipe, which is no failure
    if signal.SIGINT in signals:
        return INTERRUPTED
    return TsmError.exit_code if ended and not ended.complete and source.reconnects else 0


@contextmanager
def _signals(stop: threading.Event) -> Iterator[list[int]]:
    """Let the first SIGINT or SIGTERM set an event, and a second one end the process at once.

    Yields:
        The received signals.
    """
    received: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        received.append(number)
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _warn_of(source: Source, event: Event) -> None:
    """Report on standard error what makes the result incomplete."""
    match event:
        case Discontinuity(reason=reason, time=time):
            warn(f"{source.name}: at {time:.2f} s: {reason}; the segments end there")
        case Resumption(time=time):
            warn(f"{source.name}: goes on at {time:.2f} s")
        case Drop(start=start, end=end, intervals=number):
            warn(f"{source.name}: too slow: {number} intervals from {start:g} to {end:g} s dropped")
        case End(complete=False, reason=reason):
            warn(f"{source.name}: {reason}")
