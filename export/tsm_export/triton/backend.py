"""A model on a Triton server as the runtime's backend: clips go there, scores come back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_export.triton.model_config import PARAMETER, differences, head_labels, signature
from tsm_export.triton.server import TritonServer, words
from tsm_runtime.backends.base import BlockingBackend, Scores
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.manifest import Manifest
from tsm_runtime.errors import BackendError, UsageError
from tsm_runtime.models.member import Member

_Answer = dict[str, npt.NDArray[np.float32]]


def served_bundle(server: TritonServer, model: str, version: str = "", given: Path | None = None) -> Bundle:
    """Return the bundle of a served model: as the server describes it, or from disk.

    Raises:
        BackendError: there is no such model, it was not written by tsm-triton (and no bundle is given), or it
            is not that of the bundle.
        BundleError: the given bundle cannot be used.
    """
    config = server.model_config(model, version)
    written = server.served(model, config)
    if given is not None:
        bundle = load_bundle(given)
        if written is not None and (what := differences(bundle.manifest, written.manifest)):
            raise BackendError(
                f"{server.address}: model {model!r} is not that of {given}: {' and '.join(what)} differ"
            )
        return bundle
    if written is None:
        raise BackendError(
            f"{server.address}: model {model!r} was not written by tsm-triton (no parameter {PARAMETER});"
            " name its bundle with --bundle"
        )
    return Bundle(path=Path(model), manifest=written.manifest, manifest_sha256=written.bundle_sha256)


def open_member(
    server: TritonServer,
    model: str,
    bundle: Bundle,
    *,
    version: str = "",
    clips_per_request: int = 1,
    in_flight: int = 8,
) -> Member:
    """Return a served model as the pipeline takes it.

    Raises:
        BackendError: there is no such model, or it takes or gives something else than the bundle says.
        UsageError: more clips in a request than it takes.
    """
    manifest = bundle.manifest
    backend = TritonBackend(
        server, model, manifest, version=version, clips_per_request=clips_per_request, in_flight=in_flight
    )
    return Member(
        backend=backend,
        spec=manifest.clip_spec,
        action_labels=manifest.action_labels,
        scene_labels=manifest.scene_labels,
        rules=manifest.segment_rules,
    )


class TritonBackend(BlockingBackend):
    """A model on a server.

    Args:
        server: an open connection.
        model: its name.
        manifest: what it takes and gives.
        version: of the model; "": what the server chooses.
        clips_per_request: N of a request. The server puts requests together by itself.
        in_flight: most requests sent and not yet answered.

    Raises:
        BackendError: there is no such model, or it takes or gives something else than the manifest says.
        UsageError: more clips in a request than it takes.
    """

    def __init__(
        self,
        server: TritonServer,
        model: str,
        manifest: Manifest,
        *,
        version: str = "",
        clips_per_request: int = 1,
        in_flight: int = 8,
    ) -> None:
        self._server, self._model, self._version = server, model, version
        self._clips, self._in_flight = clips_per_request, in_flight
        self._sizes = {name: len(labels) for name, labels in head_labels(manifest).items()}
        self._where = f"{server.address}: model {model!r}"
        config = server.model_config(model, version)
        if (got := server.signature(config)) != (expected := signature(manifest)):
            raise BackendError(f"{self._where} takes or gives something else: expected {expected}, got {got}")
        most = config.max_batch_size
        if clips_per_request > most:
            raise UsageError(f"{self._where} takes up to {most} clips in a request, not {clips_per_request}")
        shown = f"{model} version {version}" if version else model
        self.name = f"Triton {server.version} at {server.address}, {shown}"

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a (N, T, size, size, 3) uint8 batch; returns when all its requests are answered.

        Raises:
            BackendError: the server went away, took too long, or answered with an error or in another shape.
        """
        starts = range(0, len(frames), self._clips)
        answers = self._run_requests([frames[start : start + self._clips] for start in starts])
        scores = {name: np.concatenate([answer[name] for answer in answers]) for name in self._sizes}
        return Scores(scores["action_scores"], scores.get("scene_scores"))

    def _run_requests(self, requests: Sequence[npt.NDArray[np.uint8]]) -> list[_Answer]:
        """Send requests, a bounded number ahead of the answers; these come in any order."""
        done: SimpleQueue[tuple[int, Any, Any]] = SimpleQueue()
        answers: dict[int, _Answer] = {}
        calls: list[Any] = []
        try:
            while len(answers) < len(requests):
                while len(calls) < min(len(requests), len(answers) + self._in_flight):
                    calls.append(self._send(len(calls), requests[len(calls)], done))
                number, result, error = done.get()
                if error is not None:
                    raise BackendError(f"{self._where} failed on a request: {words(error)}") from error
                answers[number] = self._answer(result, len(requests[number]))
        finally:
            for call in calls if len(answers) < len(requests) else ():
                call.cancel()
        return [answers[number] for number in range(len(requests))]

    def _send(
        self, number: int, frames: npt.NDArray[np.uint8], done: SimpleQueue[tuple[int, Any, Any]]
    ) -> Any:
        def answered(result: Any, error: Any) -> None:
            done.put((number, result, error))

        return self._server.send(self._model, self._version, frames, tuple(self._sizes), answered)

    def _answer(self, result: Any, num_clips: int) -> _Answer:
        return {name: self._scores(result, name, (num_clips, size)) for name, size in self._sizes.items()}

    def _scores(self, result: Any, name: str, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
        try:
            value: npt.NDArray[np.float32] | None = result.as_numpy(name)
        except ValueError:  # not as many bytes as its shape says
            value = None
        if value is None or value.dtype != np.float32 or value.shape != shape:
            got = "nothing" if value is None else f"{value.dtype} {value.shape}"
            raise BackendError(f"{self._where} answered {name} as {got}; expected float32 {shape}")
        return value
