"""Python interface of the runtime: `from tsm_runtime import load, run, stream`.

The module has no global state. Several threads may share a model: each run decodes its own video, and calls
of the network are serialised.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Backend, Scores
from tsm_runtime.backends.cuda.device_numbers import device_numbers
from tsm_runtime.backends.online import ONLINE_MODEL, OnlineBackend
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.finding import find_bundle
from tsm_runtime.closing import Closing
from tsm_runtime.fusion.options import checked_weights
from tsm_runtime.models.choice import BackendName, BackendRequest, Precision, open_model
from tsm_runtime.models.member import Member, Overrides
from tsm_runtime.models.opening import member_of, settings_of
from tsm_runtime.models.several_gpus import open_on_devices
from tsm_runtime.pipeline import run as pipeline
from tsm_runtime.pipeline.options import Options
from tsm_runtime.results import Result

if TYPE_CHECKING:
    from tsm_runtime.live.events import Event
    from tsm_runtime.live.options import LiveOptions


class _Shared:
    """Backend that is safe to call from several threads: calls are serialised, batches overlap."""

    def __init__(self, backend: Backend) -> None:
        self.name, self.device, self.best_batch = backend.name, backend.device, backend.best_batch
        self.in_flight, self.frame_pool = backend.in_flight, backend.frame_pool
        self._backend = backend
        self._turn = threading.Lock()

    def submit(self, frames: npt.NDArray[np.uint8]) -> Any:
        with self._turn:
            return self._backend.submit(frames)

    def result(self, batch: Any) -> Scores:
        with self._turn:
            return self._backend.result(batch)

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        with self._turn:
            return self._backend.infer(frames)

    def close(self) -> None:
        with self._turn:
            self._backend.close()


class Model(Closing):
    """Open model of a bundle, created by `load`. Close it, or use it as a context manager."""

    def __init__(self, bundle: Bundle, backend: Backend, overrides: Overrides | None = None) -> None:
        self.bundle = bundle
        self._overrides = overrides
        self._backend = backend if isinstance(backend, OnlineBackend) else _Shared(backend)
        self._closed = False

    @property
    def name(self) -> str:
        """Backend of the model: library, version, device and precision."""
        return self._backend.name

    @property
    def action_labels(self) -> tuple[str, ...]:
        """Labels of the columns of action scores; a softmax head has `background` last."""
        return self.bundle.manifest.action_labels

    @property
    def scene_labels(self) -> tuple[str, ...]:
        """Labels of the columns of scene scores; empty without a scene head."""
        return self.bundle.manifest.scene_labels

    @property
    def interval_seconds(self) -> float:
        """Length t of an interval in seconds."""
        return self.bundle.manifest.interval_seconds

    def member(self, weight: float = 1.0) -> Member:
        """Return the model as a member for one call of `pipeline.run` or `live.session.watch`.

        Raises:
            ValueError: the model is closed.
        """
        if self._closed:
            raise ValueError(f"the model of {self.bundle.path} is closed")
        backend = self._backend
        if isinstance(backend, OnlineBackend):
            backend = OnlineBackend(backend.model)  # holds the states of one run
        return replace(
            member_of(self.bundle, backend, self._overrides), name=self.bundle.path.name, weight=weight
        )

    def close(self) -> None:
        """Release the resources of the backend; all runs must have ended. Further calls do nothing."""
        if not self._closed and isinstance(self._backend, _Shared):
            self._backend.close()
        self._closed = True


def load(
    bundle: str | Path | None = None,
    *,
    precision: Precision | None = None,
    backend: BackendName = "auto",
    num_threads: int | None = None,
    online: bool = False,
    overrides: Overrides | None = None,
    device: int | str | Sequence[int] = 0,
) -> Model:
    """Open the model of a bundle.

    Args:
        bundle: folder written by tsm-export; None: $TSM_MODEL, ./bundle, or the embedded demo model.
        precision: precision of the model; None: the best for this machine.
        backend: inference library; `auto` selects one, any other value is used or raises an error.
        num_threads: CPU threads of the network; None: all cores.
        overrides: values that replace settings of the bundle, such as smoothing, window and stride.
        device: number of the GPU, if the model runs on one; several, as "0,1", [0, 1] or "all", share the
            batches.
        online: use the online model, which processes one frame per call, as `tsm-live` does if there is one.

    Raises:
        BundleError: the bundle cannot be used, or has no such model.
        BackendError: the inference library is not installed or finds no GPU.
        UsageError: the overrides do not fit this model, or `device` is no list of different numbers.
        ValueError: precision or backend is given together with `online`.
    """
    path, _ = find_bundle(None if bundle is None else Path(bundle))
    found = load_bundle(path)
    settings_of(found, overrides)
    if not online:
        request = BackendRequest(backend=backend, precision=precision, num_threads=num_threads)
        return Model(found, open_on_devices(found, request, device_numbers(device)), overrides)
    if (backend, precision) != ("auto", None):
        raise ValueError("an online model has one precision and one backend; leave them out")
    return Model(found, open_model(found, ONLINE_MODEL, num_threads=num_threads), overrides)


def run(
    video: str | Path,
    model: Model | Sequence[Model],
    options: Options | None = None,
    *,
    weights: Sequence[float] | None = None,
) -> Result:
    """Find the segments of a video file.

    Args:
        video: the file.
        model: one model, or several that form an ensemble; the video is decoded once.
        options: which part of the video, batch size, minimum score, fusion.
        weights: weights of several models, above 0; None: equal weights.

    Returns:
        Segments, scenes, defects of the video, and `scores`: an `IntervalScores` with the arrays `indices`
        (K,), `action` (K, A) and `scene` (K, S) of the K intervals, before merging; of an ensemble they are
        in its `members`.

    Raises:
        VideoError: the video cannot be read or has no whole interval.
        RunError: the network failed or returned scores that are not finite.
        UsageError: the weights do not match the models.
    """
    return pipeline.run(Path(video), _members(model, weights), options)


def stream(
    source: str | Path,
    model: Model | Sequence[Model],
    options: LiveOptions | None = None,
    *,
    weights: Sequence[float] | None = None,
    timeout_seconds: float = 10.0,
    pace: bool = False,
    stop: threading.Event | None = None,
) -> Iterator[Event]:
    """Find the segments of a stream; each is reported as soon as its end is certain.

    The delay is at most one interval plus the computing time. A window longer than the interval adds half of
    the difference, smoothing half its width (rounded up to whole strides), and an ensemble waits until no
    overlapping candidate is open.
    Where the model's segments are made of the scores of frames, they are decoded with a bounded look-ahead
    (`LiveOptions.lookahead_seconds`), and the first event states the delay.

    Args:
        source: `rtsp://...` and other addresses, `/dev/video0`, `-` (standard input) or a file.
        model: as in `run`.
        options: see `live.session.LiveOptions`.
        weights: as in `run`.
        timeout_seconds: a network stream without data for this long counts as lost.
        pace: play a file in real time.
        stop: event that ends the run; any thread may set it. Open segments are then closed and reported.

    Yields:
        Events of `live.events`, the last of which is an `End`.

    Raises:
        VideoError: the source cannot be opened, or ended before a whole interval.
        RunError: see `run`.
        UsageError: the weights do not match the models, the kind of address is unknown, or the smoothing is
            too wide for a stream.
    """
    from tsm_runtime.live.options import LiveOptions
    from tsm_runtime.live.session import watch
    from tsm_runtime.video.sources import find_source

    models = (model,) if isinstance(model, Model) else tuple(model)
    live = replace(options or LiveOptions(), bundles=tuple(each.bundle.manifest_sha256 for each in models))
    found = find_source(str(source), timeout_seconds=timeout_seconds, pace=pace)
    return watch(found, _members(models, weights), live, stop=stop)


def _members(model: Model | Sequence[Model], weights: Sequence[float] | None) -> list[Member]:
    models = (model,) if isinstance(model, Model) else tuple(model)
    checked = checked_weights(weights, len(models))
    return [each.member(weight) for each, weight in zip(models, checked, strict=True)]
