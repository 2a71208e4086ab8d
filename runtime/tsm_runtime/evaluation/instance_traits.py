"""Characteristics of instances (length, coverage, ...) and their bins, for the diagnosis of errors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.matching import Matching
from tsm_runtime.evaluation.segment_table import Ints
from tsm_runtime.files import is_folder, read_json
from tsm_runtime.formats.ground_truth import GroundTruth, VideoAnnotation

DEFAULT_NUM_BINS = 5

DETAD_BORDERS: dict[str, tuple[float, ...]] = {
    "length": (30.0, 60.0, 120.0, 180.0),
    "coverage": (0.2, 0.4, 0.6, 0.8),
    "instances": (1.0, 4.0, 8.0),
    "agreement": (0.2, 0.4, 0.6, 0.8),
}
"""Borders of bins in DETAD, chosen for ActivityNet: seconds, shares, counts."""

_NAMES = ("length", "coverage", "instances", "agreement", "scene", "view")

InstanceKey = tuple[str, str, float, float]
"""Video id, label, start and end of an instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """One characteristic of instances.

    Args:
        name: length (seconds), coverage (share of the video), instances (of its class in its video),
            agreement (of annotators), scene, view.
        values: a number or a name per instance; instances without a value belong to no bin.
        borders: borders between the bins of numbers, each part of the bin below it; None: quantiles.
    """

    name: str
    values: Mapping[InstanceKey, float | str]
    borders: tuple[float, ...] | None = None

    def bins(self, matching: Matching, num_bins: int) -> list[tuple[str, Ints]]:
        """Return name and rows of `matching.truth` of each bin that is not empty."""
        table = matching.truth
        keys = zip(
            table.video.tolist(), table.label.tolist(), table.start.tolist(), table.end.tolist(), strict=True
        )
        found = [self.values.get((matching.videos[v], matching.labels[i], s, e)) for v, i, s, e in keys]
        names = sorted({value for value in found if isinstance(value, str)})
        if names:
            return [(name, np.array([i for i, v in enumerate(found) if v == name])) for name in names]
        rows = np.array([i for i, value in enumerate(found) if value is not None], dtype=np.int64)
        numbers = np.array([value for value in found if value is not None], dtype=np.float64)
        if not len(rows):
            return []
        borders = self.borders
        if borders is None:
            quantiles = np.quantile(numbers, np.arange(1, num_bins) / num_bins)
            # A border above all values is dropped: with many equal values it would name an empty bin.
            borders = tuple(value for value in np.unique(quantiles).tolist() if value < numbers.max())
        place = np.searchsorted(np.array(borders), numbers, side="left")
        return [
            (name, rows[place == i]) for i, name in enumerate(_bin_names(borders)) if bool(np.any(place == i))
        ]


def _bin_names(borders: Sequence[float]) -> list[str]:
    if not borders:
        return ["all"]
    between = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(borders)]
    return [f"up to {borders[0]:.4g}", *between, f"above {borders[-1]:.4g}"]


def parse_bins(texts: Sequence[str]) -> tuple[dict[str, tuple[float, ...]], int]:
    """Return borders by characteristic, and the number of quantile bins of the others.

    >>> parse_bins(["length=5,30", "4"])
    ({'length': (5.0, 30.0)}, 4)

    Raises:
        UsageError: a text has another form.
    """
    borders: dict[str, tuple[float, ...]] = {}
    num_bins = DEFAULT_NUM_BINS
    for text in texts:
        name, equals, values = text.partition("=")
        if text == "detad":
            borders.update(DETAD_BORDERS)
        elif not equals and text.isdecimal() and 1 <= int(text) <= 100:
            num_bins = int(text)
        elif equals and name in DETAD_BORDERS:
            borders[name] = _parse_borders(text, values)
        else:
            allowed = ", ".join(DETAD_BORDERS)
            raise UsageError(
                f"--bins {text}: give NAME=BORDERS (NAME: {allowed}), a number of bins, or detad"
            )
    return borders, num_bins


def _parse_borders(text: str, values: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values.split(","))
    except ValueError:
        numbers = ()
    rising = all(low < high for low, high in pairwise(numbers))
    if not numbers or not rising or not all(math.isfinite(number) for number in numbers):
        raise UsageError(f"--bins {text}: borders must be rising numbers, as in length=5,30")
    return numbers


def read_traits(
    path: Path, truth: GroundTruth, borders: Mapping[str, tuple[float, ...]], *, strip_ids: int = 0
) -> list[Trait]:
    """Return the characteristics that at least one instance has.

    Args:
        path: the annotations, read again for "agreement" (a number per annotation) and "view" (a name per
            video), which evaluation itself does not use.
        truth: the videos to evaluate.
        borders: borders by characteristic; quantiles where there are none.
        strip_ids: number of characters cut from the front of the file's video ids.

    Raises:
        UsageError: an agreement is not a finite number, or a view is not text.
    """
    values: dict[str, dict[InstanceKey, float | str]] = {name: {} for name in _NAMES}
    for video in truth.videos:
        _add_video(values, video)
    _add_extras(values, path, {video.video_id for video in truth.videos}, strip_ids)
    return [
        Trait(name=name, values=found, borders=borders.get(name)) for name, found in values.items() if found
    ]


def _add_video(values: Mapping[str, dict[InstanceKey, float | str]], video: VideoAnnotation) -> None:
    count = Counter(segment.label for segment in video.segments)
    for segment in video.segments:
        start, end = segment.start_seconds, segment.end_seconds
        key = (video.video_id, segment.label, start, end)
        values["length"][key] = end - start
        values["instances"][key] = float(count[segment.label])
        if video.duration_seconds:
            values["coverage"][key] = (end - start) / video.duration_seconds
        if video.scene is not None:
            values["scene"][key] = video.scene


def _add_extras(
    values: Mapping[str, dict[InstanceKey, float | str]], path: Path, videos: set[str], strip_ids: int
) -> None:
    if is_folder(path) or path.suffix.lower() == ".csv":
        return  # these formats have no such fields
    content = read_json(path)
    database = content.get("database", {}) if isinstance(content, dict) else {}
    for raw_id, video in database.items():
        name = raw_id[strip_ids:]
        if name not in videos:
            continue
        view = video.get("view")
        if view is not None and not isinstance(view, str):
            raise UsageError(f'{path}: video {raw_id!r}: "view" is {view!r}; expected text')
        for number, entry in enumerate(video.get("annotations", ()), start=1):
            key = (name, entry["label"], float(entry["segment"][0]), float(entry["segment"][1]))
            agreement = entry.get("agreement")
            if view is not None:
                values["view"][key] = view
            if agreement is None:
                continue
            if not isinstance(agreement, int | float) or not math.isfinite(agreement):
                raise UsageError(f'{path}: video {raw_id!r}, entry {number}: "agreement" is {agreement!r}')
            values["agreement"][key] = float(agreement)
