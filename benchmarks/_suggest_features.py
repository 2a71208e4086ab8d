"""Features of the frames of annotated videos for `suggest.py`, as they are and mirrored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from _frozen_head import plain_backbone

from tsm_export.accuracy import OnnxBackend
from tsm_runtime.backends.base import BlockingBackend, Scores
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.formats.ground_truth import VideoAnnotation
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.run import run
from tsm_train.model.pretrained import load_pretrained
from tsm_train.model.tsm import TSM

SPEC = ClipSpec(interval_seconds=0.5, num_frames=4, size=128)
FRAME_SECONDS = 0.125
Features = npt.NDArray[np.float16]
Infer = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def read_features(
    videos: Sequence[VideoAnnotation], folder: Path, cache: Path, bundle: Path | None
) -> dict[str, Features]:
    """Return the features per video id, (2, L, D), computed where there is no cache."""
    if cache.exists():
        with np.load(cache) as stored:
            return dict(stored)
    spec, infer, width = imagenet() if bundle is None else of_bundle(bundle)
    assert spec.interval_seconds / spec.num_frames == FRAME_SECONDS
    found = {}
    for about in videos:
        path = folder / f"{about.video_id}.mp4"
        views = [features_of(path, spec, infer, width, mirrored=side) for side in (False, True)]
        found[about.video_id] = np.stack(views)
        print(about.video_id, flush=True)
    np.savez(cache, **found)  # type: ignore[arg-type]
    return found


def imagenet() -> tuple[ClipSpec, Infer, int]:
    """Return clips, features of clips as (N, T, D), and D, of a backbone that knows no action."""
    model = TSM("efficientnet_lite0", 1, num_frames=SPEC.num_frames, shift=False)
    load_pretrained(model, "imagenet")
    model.eval()

    def infer(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(model.frame_features(torch.from_numpy(frames)).numpy())

    return SPEC, infer, model.feature_dim


def of_bundle(path: Path) -> tuple[ClipSpec, Infer, int]:
    """Return the same of a bundle's backbone."""
    bundle = load_bundle(path)
    about = bundle.manifest
    backend = OnnxBackend(plain_backbone(bundle)[0])

    def infer(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        features = backend.infer(frames).features
        assert features is not None
        return features

    spec = ClipSpec(interval_seconds=about.interval_seconds, num_frames=about.num_frames, size=about.size)
    return spec, infer, about.feature_dim


class FeatureBackend(BlockingBackend):
    """Gives the features of a clip's frames in the place of scores."""

    name = "features"

    def __init__(self, infer: Infer, mirrored: bool) -> None:
        self._infer, self._mirrored = infer, mirrored

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Return (N, T * D) features as action scores."""
        seen = np.ascontiguousarray(frames[:, :, :, ::-1]) if self._mirrored else frames
        return Scores(self._infer(seen).reshape(len(frames), -1).astype(np.float32), None)


def features_of(path: Path, spec: ClipSpec, infer: Infer, width: int, *, mirrored: bool) -> Features:
    """Return (L, D) features of a video's frames."""
    labels = tuple(f"f{n}" for n in range(spec.num_frames * width))
    member = Member(backend=FeatureBackend(infer, mirrored), spec=spec, action_labels=labels)
    result = run(path, member)
    assert result.scores is not None
    return result.scores.action.reshape(-1, width).astype(np.float16)
