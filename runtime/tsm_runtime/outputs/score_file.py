"""The scores of intervals and frames in a file: arrays by video (.npz), or a table (.csv)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tsm_runtime.errors import UsageError
from tsm_runtime.files import write_whole
from tsm_runtime.models.member import Member
from tsm_runtime.outputs.sinks import Sink
from tsm_runtime.results import Result

_SUFFIXES = (".npz", ".csv")


def check_scores(path: Path, output: str | None) -> None:
    """Check the name of a file of scores.

    Raises:
        UsageError: the suffix is unknown, or the file is also the output of segments.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"--scores {path}: expected a name that ends with {' or '.join(_SUFFIXES)}")
    if output is not None and Path(output) == path:
        raise UsageError(f"--scores {path}: that is the output of segments too; choose another name")


def with_scores(sink: Sink, path: Path, members: Sequence[Member]) -> Sink:
    """Return a sink that passes results to `sink` and, after that has written, writes the scores.

    Raises:
        UsageError: there are several models.
    """
    if len(members) > 1:
        raise UsageError("--scores is for one model: run each model of an ensemble alone")
    return _ScoreSink(sink, path, members[0])


class _ScoreSink:
    def __init__(self, sink: Sink, path: Path, member: Member) -> None:
        self._sink, self._path, self._member = sink, path, member
        self._results: list[Result] = []

    def add(self, result: Result) -> None:
        self._results.append(result)
        self._sink.add(result)

    def fail(self, video_id: str, reason: str) -> None:
        self._sink.fail(video_id, reason)

    def close(self) -> None:
        self._sink.close()
        encode = _npz if self._path.suffix.lower() == ".npz" else _csv
        write_whole(self._path, encode(self._results, self._member))


def _npz(results: Sequence[Result], member: Member) -> bytes:
    """Encode `VIDEO/interval_seconds` (K, 2), `VIDEO/interval_scores` (K, A), and so on."""
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "action_labels": np.array(member.action_labels),
        "scene_labels": np.array(member.scene_labels, dtype=np.str_),
    }
    for result in results:
        for name, array in _arrays(result):
            arrays[f"{result.video_id}/{name}"] = array
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _arrays(result: Result) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
    if (scores := result.scores) is not None:
        yield "interval_seconds", _bounds(scores.indices, result.cell_seconds)
        yield "interval_scores", scores.action
        if scores.scene is not None:
            yield "scene_scores", scores.scene
    if (frames := result.frames) is not None:
        yield "frame_seconds", _bounds(frames.indices, frames.step_seconds)
        yield "frame_scores", frames.action
        if frames.actionness is not None:
            yield "actionness", frames.actionness
        if frames.distances is not None:
            yield "distances", frames.distances


def _csv(results: Sequence[Result], member: Member) -> bytes:
    """Encode a row for each interval and each frame: video, kind, bounds in seconds, action scores."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video", "kind", "start", "end", *member.action_labels])
    for result in results:
        arrays = dict(_arrays(result))
        for kind in ("interval", "frame"):
            if f"{kind}_scores" not in arrays:
                continue
            rows = zip(arrays[f"{kind}_seconds"].tolist(), arrays[f"{kind}_scores"].tolist(), strict=True)
            for bounds, scores in rows:
                numbers = [round(number, 6) for number in (*bounds, *scores)]
                writer.writerow([result.video_id, kind, *numbers])
    return text.getvalue().encode()


def _bounds(indices: npt.NDArray[np.int64], step_seconds: float) -> npt.NDArray[np.float64]:
    return np.stack([indices * step_seconds, (indices + 1) * step_seconds], axis=1)
