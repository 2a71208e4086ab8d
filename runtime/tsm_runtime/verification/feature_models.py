"""Comparisons of the files that take features: temporal head, sound branch, joint model of views."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from tsm_runtime.audio.patches import Patches, SoundTrack
from tsm_runtime.audio.spec import SoundSpec
from tsm_runtime.audio.whole_track import read_track
from tsm_runtime.backends.base import Backend
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.errors import BundleError
from tsm_runtime.models.sound_branch import SoundBranch
from tsm_runtime.models.temporal_head import HEAD_MODELS, HeadStream, TemporalHead, joined_frames
from tsm_runtime.models.view_join import ViewJoin
from tsm_runtime.results import FrameScores
from tsm_runtime.verification.clip_sets import ClipSet
from tsm_runtime.verification.compare import HeadDifference, compare_head
from tsm_runtime.verification.comparison import Comparison
from tsm_runtime.verification.score import Heads
from tsm_runtime.verification.tolerances import Tolerance
from tsm_runtime.verification.variants import Variant
from tsm_runtime.wording import counted

FeatureComparison = Callable[[Bundle, Variant, Tolerance, ClipSet, Heads, Backend], Comparison]
"""Bundle, file, limits, clips, the reference's scores of them, and the reference's backend."""

_CHUNK_FRAMES = 16
"""Frames per chunk: few, so that chunks begin and end within every clip set."""


def compare_temporal_head(
    bundle: Bundle, variant: Variant, tolerance: Tolerance, clips: ClipSet, _: Heads, backend: Backend
) -> Comparison:
    """Compare a head in short chunks with the fp32 head on all frames; noise counts as one video."""
    whole, parts = TemporalHead(bundle, HEAD_MODELS[0]), TemporalHead(bundle, variant.file)
    features = _features(backend, clips.frames)
    features = features.reshape(-1, features.shape[2])
    scores, actionness, _distances = whole.infer(features)
    got = _in_chunks(parts, features)
    heads = {"frame_scores": compare_head(scores, got.action)}
    if got.actionness is not None:
        heads["actionness"] = compare_head(actionness[:, None], got.actionness[:, None])
    ran_on = f"onnxruntime, {counted(len(features), 'frame')}"
    return _comparison(variant, tolerance, clips, ran_on, (_CHUNK_FRAMES,), heads)


def compare_sound(
    bundle: Bundle, variant: Variant, tolerance: Tolerance, clips: ClipSet, expected: Heads, backend: Backend
) -> Comparison:
    """Compare a sound branch without sound with the picture model, and with sound in batches with one by one.

    The sound is that of the video; for noise it is noise too.
    """
    branch = SoundBranch(bundle)
    features = np.asarray(_features(backend, clips.frames).mean(axis=1), np.float32)
    num = len(features)
    silent = SoundTrack.silent(branch.spec).patches(np.zeros(num))
    muted = branch.infer(features, silent)
    patches = _patches(bundle, branch.spec, clips)
    heard = branch.infer(features, patches)
    one_by_one = [
        branch.infer(
            features[row : row + 1], Patches(patches.log_mel[row : row + 1], patches.is_heard[row : row + 1])
        )
        for row in range(num)
    ]
    heads = {"action_scores": compare_head(expected["action_scores"], muted.action)}
    if muted.scene is not None:
        heads["scene_scores"] = compare_head(expected["scene_scores"], muted.scene)
    heads["heard_action_scores"] = compare_head(
        np.concatenate([scores.action for scores in one_by_one]), heard.action
    )
    ran_on = f"onnxruntime, {round(float(patches.is_heard.sum()))} of {counted(num, 'interval')} heard"
    return _comparison(variant, tolerance, clips, ran_on, (1, num), heads)


def compare_views(
    bundle: Bundle, variant: Variant, tolerance: Tolerance, clips: ClipSet, _: Heads, backend: Backend
) -> Comparison:
    """Compare a joint model on moments of several views with itself, in another order and with missing views.

    The views of a moment are the features of neighbouring clips. A view that is missing must not be read.
    """
    joint = ViewJoin(bundle)
    features = np.asarray(_features(backend, clips.frames).mean(axis=1), np.float32)
    moments = np.stack([features, np.roll(features, 1, axis=0), np.roll(features, 2, axis=0)], axis=1)
    present = np.ones(moments.shape[:2], np.float32)
    present[::2, 2] = 0.0
    whole = joint.infer(moments, present)
    turned, others = moments[:, ::-1].copy(), present[:, ::-1].copy()
    turned[others == 0] = 7.0
    again = joint.infer(turned, others)
    heads = {"action_scores": compare_head(whole.action, again.action)}
    if whole.scene is not None and again.scene is not None:
        heads["scene_scores"] = compare_head(whole.scene, again.scene)
    ran_on = "onnxruntime, three views in two orders, some missing"
    return _comparison(variant, tolerance, clips, ran_on, (len(features),), heads)


def _comparison(
    variant: Variant,
    tolerance: Tolerance,
    clips: ClipSet,
    backend: str,
    batch_sizes: tuple[int, ...],
    heads: Mapping[str, HeadDifference],
) -> Comparison:
    return Comparison(
        variant=variant,
        backend=backend,
        clips=clips.name,
        num_clips=len(clips.frames),
        batch_sizes=batch_sizes,
        heads=heads,
        tolerance=tolerance,
    )


def _patches(bundle: Bundle, spec: SoundSpec, clips: ClipSet) -> Patches:
    """Return the sound of the intervals of a video, or noise."""
    if clips.path is None or clips.indices is None:
        shape = (len(clips.frames), *spec.patch_shape)
        noise = np.random.default_rng(0).normal(-2.0, 2.0, shape).astype(np.float32)
        return Patches(noise, np.ones(len(noise), np.float32))
    track, _ = read_track(clips.path, spec)
    grid = bundle.manifest.clip_spec
    middles = clips.indices * grid.stride_seconds + grid.interval_seconds / 2
    return track.patches(np.asarray(middles, np.float64))


def _features(backend: Backend, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the features (N, T, D) of clips (N, T, size, size, 3), scored one by one."""
    found = [backend.infer(frames[row : row + 1]).features for row in range(len(frames))]
    known = [features for features in found if features is not None]
    if len(known) < len(found):
        raise BundleError("model.fp32.onnx gives no features of frames; export the bundle again")
    return np.concatenate(known)


def _in_chunks(head: TemporalHead, features: npt.NDArray[np.float32]) -> FrameScores:
    """Return a head's scores of frames that arrive a few at a time."""
    stream, step = HeadStream(head, 1.0, _CHUNK_FRAMES), _CHUNK_FRAMES
    chunks = [stream.push(first, features[first : first + step]) for first in range(0, len(features), step)]
    return joined_frames([part for chunk in [*chunks, stream.close()] for part in chunk])
