"""What the shift across the borders of neighbouring clips is worth, without training the backbone anew.

A clip's first and last frame get zeros from the shift where a neighbour in the video exists. Here eight
neighbouring clips run as one sequence, so that seven of eight borders are gone; the cost per frame is the
same. A temporal head is trained on the features of either way. The columns are those of `head_variants.py`;
`difference` is the 95 % interval of the gain of the whole way over the clips, over resampled videos.

    python benchmarks/whole_video.py benchmarks/configs/ut_interaction_head.toml --run runs/ut-head
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from _common import store
from head_variants import Backbone, mirrored_features, opened, row_of

from tsm_runtime.backends.base import BlockingBackend, Scores
from tsm_runtime.evaluation.bootstrap import bootstrap_difference
from tsm_train.config import load_config
from tsm_train.head.features import FeatureCache
from tsm_train.head.train import FEATURES
from tsm_train.model.shift import ShiftedConv2d
from tsm_train.model.tsm import TSM
from tsm_train.samples.frame_store import FrameStore


def main() -> None:
    """Train heads on both kinds of features, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a run's TOML file with a [head] section")
    parser.add_argument("--set", action="append", default=[], help="as of tsm-train")
    parser.add_argument("--run", type=Path, help="folder of a trained run [default: pretrained weights]")
    parser.add_argument("--seeds", type=int, default=3, help="how many heads of each kind")
    parser.add_argument("--test", default="", help="a subset that chooses nothing")
    parser.add_argument("--name", default="whole_video", help="results/NAME.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(options.config, options.set)
    clips = opened(options.config, options.set, options.run)
    rows, means = {}, {}
    for name, backbone in {"clips": clips, "whole": _whole(clips)}.items():
        heads = [backbone.head(config, seed) for seed in range(options.seeds)]
        rows[name], means[name] = row_of(backbone, config, heads, options.test)
        print(name, rows[name], flush=True)
    gain = bootstrap_difference(
        clips.matching(means["whole"]), clips.matching(means["clips"]), replicates=1000
    )
    difference = [round(100 * value, 1) for value in (gain.average.low, gain.average.high)]
    store(options.name, {"config": options.config.name, "rows": rows, "difference": difference})


class _Whole(BlockingBackend):
    """Scores the clips of a batch, which follow one another in a video, as one sequence."""

    name = "torch, whole"

    def __init__(self, model: TSM) -> None:
        self._model = model
        self._shifted = [module for module in model.modules() if isinstance(module, ShiftedConv2d)]

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score (N, T, size, size, 3) clips."""
        number, per_clip = frames.shape[:2]
        for conv in self._shifted:
            conv.num_frames = number * per_clip
        with torch.inference_mode():
            pictures = torch.from_numpy(frames).flatten(0, 1)
            features = self._model.picture_features(pictures).reshape(number, per_clip, -1)
            action = self._model.classify(features.mean(1))[0].softmax(1)
            of_frames = self._model.action_head(features).softmax(2)
        return Scores(action.numpy(), None, of_frames.numpy(), features.float().numpy())


def _whole(clips: Backbone) -> Backbone:
    config = clips.checkpoint.config
    backend = _Whole(clips.checkpoint.model())
    identity = f"{clips.sha256} whole"
    cache = FeatureCache(backend, identity, clips.labels, config, FrameStore.of(config).folder / FEATURES)
    mirrored = mirrored_features(backend, identity, clips.checkpoint)
    return replace(clips, backend=backend, sha256=identity, cache=cache, mirrored=mirrored)


if __name__ == "__main__":
    main()
