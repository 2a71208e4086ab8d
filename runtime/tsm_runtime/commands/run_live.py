"""`tsm-live`: opens the models, writes the events of streams as lines, and ends on signals."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from types import FrameType

import msgspec

from tsm_runtime.backends.online import ONLINE_MODEL
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.commands.choose_models import check_one_view, choose_models
from tsm_runtime.commands.live_outputs import Outputs, open_outputs
from tsm_runtime.commands.live_request import LiveRequest
from tsm_runtime.commands.live_streams import read_streams, split_name
from tsm_runtime.errors import TsmError, UsageError
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.live.events import Discontinuity, Drop, End, Event, Resumption, Start
from tsm_runtime.live.frame_merging import merges_frames
from tsm_runtime.live.metrics import LiveMetrics
from tsm_runtime.live.options import LiveOptions
from tsm_runtime.live.session import require_live, watch_streams
from tsm_runtime.models.choice import BackendRequest, open_model
from tsm_runtime.models.member import Member, Overrides
from tsm_runtime.models.opening import (
    closing_members,
    decoding_of,
    load_bundles,
    member_of,
    open_member,
    open_members,
    settings_of,
)
from tsm_runtime.outputs.metrics import serving_if
from tsm_runtime.terminal import INTERRUPTED, log_event, warn
from tsm_runtime.video.sources import Source, find_source
from tsm_runtime.wording import counted


def run_live(request: LiveRequest) -> int:
    """Run on streams until they end or are stopped; return the exit code.

    0: each stream ended, SIGTERM arrived (as from a service manager; everything is written), or the reader of
    a pipe closed it. 1: a stream was lost for good. 130: SIGINT.

    Raises:
        TsmError: an error that a user can cause.
    """
    ensemble, notice = choose_models(request.model, request.fusion, request.min_score)
    check_one_view(ensemble)
    backend, overrides = request.backend_request(), request.around.overrides(request.decoding)
    sources = _sources(request)
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
        if notice:
            warn(notice)
        for bundle, member in zip(bundles, members, strict=True):
            for why in () if request.quiet else _what_differs(member):
                warn(f"{bundle.path}: {why}")
        return _watch(sources, members, _options(request, ensemble, bundles), request)


def _options(request: LiveRequest, ensemble: Ensemble, bundles: Sequence[Bundle]) -> LiveOptions:
    options = LiveOptions(
        show_open=request.show_open,
        drop=request.drop,
        reconnect_seconds=math.inf if request.reconnect is None else request.reconnect,
        min_score=ensemble.min_score if len(bundles) == 1 else 0.0,
        fusion=ensemble.options,
        bundles=tuple(bundle.manifest_sha256 for bundle in bundles),
        video_id=request.video_id or "",
    )
    if request.batch is not None:
        options = replace(options, batch_size=request.batch)
    return options if request.lookahead is None else replace(options, lookahead_seconds=request.lookahead)


def _what_differs(member: Member) -> Iterator[str]:
    """Yield where the run differs from one on files."""
    if other := _other_decoding(member):
        yield other
    if member.joint is not None:
        yield "views and windows are scored one by one: its joint model needs files"


def _other_decoding(member: Member) -> str:
    """Return how segments are made, where that differs from the decoding of the model; else nothing."""
    if member.decoding is None:
        return ""
    if not merges_frames(member):
        return "segments are merged from scores of clips, as its online model gives no outputs of frames"
    if member.decoding.method == "proposals":
        return "segments are merged from scores of frames, as proposals need the whole video"
    return ""


def _require_live(bundle: Bundle, overrides: Overrides) -> None:
    spec, rules = settings_of(bundle, overrides)
    try:
        require_live(spec, rules, decoding_of(bundle, overrides))
    except UsageError as error:
        raise UsageError(f"{error} (model {bundle.path})") from error


def open_live_member(
    bundle: Bundle, request: BackendRequest, overrides: Overrides | None = None, *, quiet: bool = False
) -> Member:
    """Open the online model of a bundle, or another one if the bundle has none or the request names one.

    If windows overlap, the clip-wise model is opened: an online model would get each frame several times. So
    it is beside a sound branch, which takes features that online models do not give.
    """
    spec, _ = settings_of(bundle, overrides)
    named = (request.backend, request.precision) != ("auto", None)
    hears = bundle.manifest.sound is not None
    can_be_online = ONLINE_MODEL in bundle.manifest.files and not named and spec.num_open == 1
    if can_be_online and hears and not quiet:
        warn(f"{bundle.path / ONLINE_MODEL} gives its sound branch no features: whole clips are scored")
    if not can_be_online or hears:
        return open_member(bundle, request, overrides)
    if not quiet:
        warn(f"{bundle.path / ONLINE_MODEL} runs, one frame per call; --precision fp32 takes whole clips")
    return member_of(bundle, open_model(bundle, ONLINE_MODEL, num_threads=request.num_threads), overrides)


def _sources(request: LiveRequest) -> dict[str, Source]:
    """Return the sources by the name of their stream, which is empty for one that has no name of its own."""
    if request.video_id is not None and not request.video_id.strip():
        raise UsageError("an empty --id; give a name, or leave it out")
    named = [split_name(text) for text in request.sources or ()]
    if request.streams is not None:
        named += list(read_streams(request.streams).items())
    if not named:
        raise UsageError("no stream given; try: tsm-live SOURCE, or tsm-live NAME=SOURCE NAME=SOURCE")
    if request.video_id is not None and len(named) > 1:
        raise UsageError(f"--id names one stream, but {len(named)} were given; write NAME=SOURCE")
    found: dict[str, Source] = {}
    for name, text in named:
        source = find_source(text, timeout_seconds=request.timeout, pace=request.pace, rate=request.rate)
        name = request.video_id or name or ("" if len(named) == 1 else source.video_id)
        if name in found:
            raise UsageError(f"two streams named {name!r}; write NAME=SOURCE with different names")
        found[name] = source
    return found


def _watch(
    sources: Mapping[str, Source], members: Sequence[Member], options: LiveOptions, request: LiveRequest
) -> int:
    """Write the events of all streams; return the exit code.

    Raises:
        TsmError: of a stream that runs alone; among several it is reported, and the others go on.
    """
    stop, codes, metrics = threading.Event(), dict.fromkeys(sources, 0), LiveMetrics()
    with (
        open_outputs(request.output, list(sources), as_json=request.json) as outputs,
        serving_if(metrics, request.metrics),
        _signals(stop) as signals,
    ):
        outputs.stop_when_unread(stop)
        events = watch_streams(
            sources, members, options, stop=stop, wait_for_sources=len(sources) > 1, monitor=metrics.watch
        )
        try:
            with closing(events):
                for name, item in events:
                    codes[name] = max(codes[name], _take(name, item, sources, outputs, request.quiet))
        except BrokenPipeError:
            return 0  # the reader has closed the pipe, which is no failure
    if signal.SIGINT in signals:
        return INTERRUPTED
    return codes.popitem()[1] if len(codes) == 1 else max(min(code, 1) for code in codes.values())


def _take(
    name: str, item: Event | BaseException, sources: Mapping[str, Source], outputs: Outputs, quiet: bool
) -> int:
    """Write an event, or report an error; return the exit code that it means for its stream."""
    source = sources[name]
    if isinstance(item, BaseException):
        if len(sources) == 1 or not isinstance(item, TsmError):
            raise item
        warn(f"{name}: {item}")
        return item.exit_code
    outputs.write(name, item)
    _log(name or source.video_id, item)
    if not quiet:
        _warn_of(name if len(sources) > 1 else source.name, item)
    lost = isinstance(item, End) and not item.complete and source.reconnects
    return TsmError.exit_code if lost else 0


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


_NOT_LOGGED = ("event", "models", "time", "wall")
"""Fields of events that are not logged; a line of the log has its own time."""


def _log(name: str, event: Event) -> None:
    """Log the beginning and the end of a stream, with `--log-json`."""
    if isinstance(event, Start | End):
        fields = {key: value for key, value in msgspec.to_builtins(event).items() if key not in _NOT_LOGGED}
        log_event(
            "stream started" if isinstance(event, Start) else "stream ended", **fields | {"stream": name}
        )


def _warn_of(name: str, event: Event) -> None:
    """Report on standard error what makes the result incomplete."""
    match event:
        case Discontinuity(reason=reason, time=time):
            warn(f"{name}: at {time:.2f} s: {reason}; the segments end there")
        case Resumption(time=time):
            warn(f"{name}: goes on at {time:.2f} s")
        case Drop(start=start, end=end, intervals=number):
            warn(f"{name}: too slow: {counted(number, 'interval')} from {start:g} to {end:g} s dropped")
        case End(complete=False, reason=reason):
            warn(f"{name}: {reason}")
