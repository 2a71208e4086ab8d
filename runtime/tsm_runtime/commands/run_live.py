"""`tsm-run --live`: the stream's events as lines, and the end by signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType

from tsm_runtime.backends.online import ONLINE_MODEL
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.errors import TsmError, UsageError
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.live.events import Discontinuity, Drop, End, Event, Resumption
from tsm_runtime.live.session import DropPolicy, LiveOptions, require_live, watch
from tsm_runtime.live.writer import LineWriter
from tsm_runtime.models.choice import BackendRequest, open_model
from tsm_runtime.models.member import Overrides
from tsm_runtime.models.opening import (
    closing_members,
    load_bundles,
    member_of,
    open_member,
    open_members,
    settings_of,
)
from tsm_runtime.pipeline.run import Member
from tsm_runtime.terminal import INTERRUPTED, warn
from tsm_runtime.video.sources import Source, find_source

__all__ = ["LiveRequest", "open_live_member", "run_live"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRequest:
    """Options of the command as given; None where not."""

    sources: tuple[str, ...]
    for_files: Mapping[str, object] = field(default_factory=dict)
    """Options that make no sense here, by their names: None where not given."""
    video_id: str | None = None
    output: str | None = None
    show_open: bool = False
    drop: DropPolicy | None = None
    batch: int | None = None
    timeout: float | None = None
    reconnect: float | None = None
    pace: bool = False
    quiet: bool = False


def run_live(
    request: LiveRequest,
    ensemble: Ensemble,
    backend: BackendRequest,
    overrides: Overrides,
    notice: str | None,
) -> int:
    """Run on a stream until it ends or somebody ends it; return the exit code.

    0: the stream ended, SIGTERM asked for the end (as a service manager does, and everything is written), or
    the reader of a pipe left. 1: the stream was lost for good. 130: SIGINT.

    Raises:
        TsmError: what a user can cause.
    """
    for option, given in request.for_files.items():
        if given is not None:
            raise UsageError(f"{option} is for files, not for --live, which writes JSON lines")
    if request.video_id is not None and not request.video_id.strip():
        raise UsageError("an empty --id; give a name, or leave it out")
    if len(request.sources) != 1:
        raise UsageError(f"--live runs on one stream, got {len(request.sources)}")
    source = find_source(request.sources[0], timeout_seconds=request.timeout or 10.0, pace=request.pace)
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
        reconnect_seconds=float("inf") if request.reconnect is None else request.reconnect,
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
    """Open a bundle's online model, unless there is none or something else was asked for by name.

    Nor does it where windows overlap: it would get frames several times, and the whole of each clip at once.
    """
    spec, _ = settings_of(bundle, overrides)
    asked = (request.backend, request.precision) != ("auto", None)
    if ONLINE_MODEL not in bundle.manifest.files or asked or spec.num_open > 1:
        return open_member(bundle, request, overrides)
    if not quiet:
        warn(f"{bundle.path / ONLINE_MODEL} runs, a frame a call; --precision fp32 takes whole clips")
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
                        _tell(source, event)
        except BrokenPipeError:
            return 0  # nobody reads any more: the end of a pipe is no failure
    if signal.SIGINT in signals:
        return INTERRUPTED
    return TsmError.exit_code if ended and not ended.complete and source.reconnects else 0


@contextmanager
def _signals(stop: threading.Event) -> Iterator[list[int]]:
    """Let the first SIGINT or SIGTERM set an event, and a second one end the process at once.

    Yields:
        The signals that came.
    """
    came: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        came.append(number)
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(source: Source, event: Event) -> None:
    """Say on standard error what makes the result less than it could be."""
    match event:
        case Discontinuity(reason=reason, time=time):
            warn(f"{source.name}: at {time:.2f} s: {reason}; the segments end there")
        case Resumption(time=time):
            warn(f"{source.name}: goes on at {time:.2f} s")
        case Drop(start=start, end=end, intervals=number):
            warn(f"{source.name}: too slow: {number} intervals from {start:g} to {end:g} s dropped")
        case End(complete=False, reason=reason):
            warn(f"{source.name}: {reason}")
