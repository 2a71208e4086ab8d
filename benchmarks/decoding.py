"""How long the decoding of frame scores takes, for each method, on one core.

Scores are made of drawn sequences of actions: lengths are log-normal, a few frames flicker, and the head's
distances carry noise. `hours_per_minute` is how many hours of video one core decodes in a minute of processor
time; rounds take turns, and the median over the rounds counts. The last line is one JSON object.

    python benchmarks/decoding.py --hours 4
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from typing import Any

import numpy as np
from _common import store

from tsm_runtime.results import BACKGROUND, FrameScores
from tsm_runtime.segments.decoding.decode import decode_frames
from tsm_runtime.segments.decoding.settings import Decoding, LengthPrior

MEAN_SECONDS, STD_LOG = 4.0, 0.5


def main() -> None:
    """Draw, decode, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=4.0, help="of video, in videos of one hour")
    parser.add_argument("--labels", type=int, default=28, help="A, the background included")
    parser.add_argument("--frames-per-second", type=int, default=16, help="T/t")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    labels = (*(f"action {number}" for number in range(options.labels - 1)), BACKGROUND)
    videos = [
        drawn_video(labels, 1 / options.frames_per_second, seed) for seed in range(math.ceil(options.hours))
    ]
    times: dict[str, list[float]] = {name: [] for name in decodings(labels)}
    found: dict[str, int] = {}
    for _ in range(options.rounds):
        for name, decoding in decodings(labels).items():
            begun = time.process_time()
            found[name] = sum(len(decode_frames(video, labels, decoding)) for video in videos)
            times[name].append(time.process_time() - begun)
    rows: dict[str, Any] = {}
    for name, seconds in times.items():
        per_hour = statistics.median(seconds) / len(videos)
        rows[name] = {
            "seconds_per_hour": round(per_hour, 4),
            "hours_per_minute": round(60 / per_hour),
            "segments_per_hour": round(found[name] / len(videos)),
        }
        print(f"{name:24s} {rows[name]}")
    store("decoding", {**vars(options), "rows": rows})


def decodings(labels: tuple[str, ...]) -> dict[str, Decoding]:
    """Return what is measured, by name."""
    lengths = tuple(
        LengthPrior(label=label, mean_log=math.log(MEAN_SECONDS), std_log=STD_LOG) for label in labels[:-1]
    )
    return {
        "merge": Decoding(),
        "merge, smoothed": Decoding(smoothing_seconds=0.5),
        "viterbi": Decoding(method="viterbi", switch_cost=3.0),
        "durations": Decoding(method="durations", lengths=lengths),
        "durations, refined": Decoding(method="durations", lengths=lengths, refine_seconds=0.25),
        "proposals": Decoding(method="proposals"),
    }


def drawn_video(labels: tuple[str, ...], step: float, seed: int) -> FrameScores:
    """Return the scores of an hour: actions and pauses in turn, and noise."""
    rng = np.random.default_rng(seed)
    num_frames = round(3600 / step)
    background = len(labels) - 1
    truth = np.full(num_frames, background)
    distances = rng.random((num_frames, 2)).astype(np.float32)
    place = 0
    while place < num_frames:
        place += round(rng.lognormal(math.log(MEAN_SECONDS), STD_LOG) / step)
        stop = min(num_frames, place + max(1, round(rng.lognormal(math.log(MEAN_SECONDS), STD_LOG) / step)))
        truth[place:stop] = rng.integers(background)
        middles = np.arange(place, stop) + 0.5
        distances[place:stop] = step * np.stack([middles - place, stop - middles], axis=1)
        place = stop
    logits = rng.normal(size=(num_frames, len(labels))).astype(np.float32)
    logits[np.arange(num_frames), truth] += np.where(rng.random(num_frames) < 0.05, 0.0, 6.0)
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    noise = np.abs(1 + 0.1 * rng.normal(size=distances.shape)).astype(np.float32)
    return FrameScores(
        indices=np.arange(num_frames), step_seconds=step, action=scores, distances=distances * noise
    )


if __name__ == "__main__":
    main()
