"""Compares every model file of a bundle that this machine can run with the reference, on each clip set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Backend
from tsm_runtime.backends.cuda.gpu import find_gpu
from tsm_runtime.backends.tensorrt.library import import_library
from tsm_runtime.backends.tensorrt.plan_fit import require_fit
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.bundle.manifest import ModelFile
from tsm_runtime.errors import BackendError, BundleError, CheckError, RunError, TsmError
from tsm_runtime.models.temporal_head import HEAD_MODELS, HeadStream, TemporalHead, joined_frames
from tsm_runtime.results import FrameScores, IntervalScores, Segment
from tsm_runtime.segments.find import find_segments
from tsm_runtime.terminal import printable
from tsm_runtime.verification.clip_sets import ClipSet, video_clips
from tsm_runtime.verification.compare import (
    HeadDifference,
    SegmentAgreement,
    compare_head,
    compare_segments,
)
from tsm_runtime.verification.pictures import PictureDifference, PictureGraph
from tsm_runtime.verification.score import Heads, Progress, Scorer, batch_sizes
from tsm_runtime.verification.tolerances import Tolerance, tolerance_for
from tsm_runtime.verification.variants import Choice, Variant, variants_of
from tsm_runtime.video.preprocess import PREPROCESS_MODEL
from tsm_runtime.wording import counted

REFERENCE = "model.fp32.onnx"
"""Reference file for all others, run on onnxruntime's CPU provider with one clip per call."""

_HEAD_CHUNK_FRAMES = 16
"""Frames per chunk: few, so that chunks begin and end within every clip set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Comparison of a model file with the reference on one set of clips.

    Args:
        variant: the file and the engine requested to run it.
        backend: the backend that ran it.
        clips: name of the clip set.
        num_clips: number of clips.
        batch_sizes: clips per call of the file; the reference gets them one by one.
        heads: difference of each output.
        segments: agreement on a video, the reference's segments first; None for noise.
        tolerance: limits of the comparison.
        pictures: for `preprocess.onnx`, whose pictures the reference scored: their difference from the CPU's.
    """

    variant: Variant
    backend: str
    clips: str
    num_clips: int
    batch_sizes: tuple[int, ...]
    heads: Mapping[str, HeadDifference]
    segments: SegmentAgreement | None
    tolerance: Tolerance
    pictures: PictureDifference | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """Differences beyond tolerance, one line each."""
        beyond = self.pictures.problem() if self.pictures is not None else None
        return (*self.tolerance.problems(self.heads, self.segments), *([beyond] if beyond else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationReport:
    """Result of a verification.

    Args:
        reference: backend that ran the reference.
        comparisons: comparisons by file; the reference itself is compared with other batch sizes, on noise.
        failed: variants that could not be compared completely, with the reason: an altered file, another
            model, outputs that are not probabilities.
        not_run: reason by label of variants that this machine cannot run or that are not to be compared.
    """

    reference: str
    comparisons: tuple[Comparison, ...]
    failed: Mapping[Variant, str]
    not_run: Mapping[str, str]

    @property
    def failures(self) -> Mapping[str, str]:
        """Reason by label of each failed variant."""
        return {variant.label: reason for variant, reason in self.failed.items()}

    @property
    def failed_files(self) -> tuple[str, ...]:
        """Files that failed or are beyond tolerance, sorted."""
        beyond = (comparison.variant.label for comparison in self.comparisons if comparison.problems)
        return tuple(sorted({*self.failures, *beyond}))

    @property
    def compared_files(self) -> tuple[str, ...]:
        """Files other than the reference that were compared with it, sorted."""
        return tuple(sorted({comparison.variant.label for comparison in self.comparisons} - {REFERENCE}))


def verify(
    bundle: Bundle,
    clip_sets: Sequence[ClipSet],
    *,
    choices: Sequence[Choice] = ("auto",),
    max_abs_error: float | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> VerificationReport:
    """Compare every model file of a bundle that this machine can run with the reference.

    Args:
        bundle: the bundle to verify; the hash of each file is checked, also of files that cannot be run.
        clip_sets: inputs of the comparison.
        choices: engines that run the files.
        max_abs_error: replaces every precision's own tolerance.
        num_threads: threads on the CPU; default: all cores.
        progress: called with the progress of each file.

    Raises:
        BundleError: the reference is missing, altered, or does not return probabilities.
        BackendError: the reference cannot be run here: onnxruntime is not installed.
        RunError: the reference failed.
        UsageError: `max_abs_error` is out of range.
    """
    files = bundle.manifest.files
    tolerance_for("fp32", max_abs_error)  # before any work is done
    run = _Run(bundle, clip_sets, num_threads, progress)
    comparisons: list[Comparison] = []
    failed: dict[Variant, str] = {}
    not_run: dict[str, str] = {}
    for name in sorted(files, key=lambda name: (name != REFERENCE, name)):
        for variant in variants_of(name, files[name], choices):
            try:
                bundle.model_bytes(name)
                _require_this_machine(name, files[name])
                tolerance = tolerance_for(variant.precision(files[name]), max_abs_error)
                compare = {"preprocess": run.compare_pictures, "head": run.compare_temporal_head}.get(
                    files[name].kind, run.compare
                )
                for comparison in compare(variant, tolerance):
                    comparisons.append(comparison)  # appended one by one, as the next may fail
            except BackendError as error:
                not_run[variant.label] = _line(error)
            except (BundleError, CheckError, RunError) as error:
                failed[variant] = _line(error)
    return VerificationReport(
        reference=run.reference, comparisons=tuple(comparisons), failed=failed, not_run=not_run
    )


def _features(backend: Backend, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the features (N * T, D) of clips (N, T, size, size, 3), scored one by one."""
    found = [backend.infer(frames[row : row + 1]).features for row in range(len(frames))]
    known = [features for features in found if features is not None]
    if len(known) < len(found):
        raise BundleError(f"{REFERENCE}: gives no features for the temporal head; export the bundle again")
    return np.concatenate([features.reshape(-1, features.shape[2]) for features in known])


def _in_chunks(head: TemporalHead, features: npt.NDArray[np.float32]) -> FrameScores:
    """Return a head's scores of frames that arrive a few at a time."""
    stream, step = HeadStream(head, 1.0, _HEAD_CHUNK_FRAMES), _HEAD_CHUNK_FRAMES
    chunks = [stream.push(first, features[first : first + step]) for first in range(0, len(features), step)]
    return joined_frames([part for chunk in [*chunks, stream.close()] for part in chunk])


def _line(error: TsmError) -> str:
    """Return the error as one printable line, for tables and JSON."""
    return printable(" ".join(str(error).splitlines()))


def _require_this_machine(name: str, entry: ModelFile) -> None:
    """Refuse a plan for another machine, which is skipped and not a failure.

    Raises:
        BackendError: the plan is for another GPU or version, or there is no GPU or library here.
    """
    if entry.engine is None:
        return
    version = str(import_library(entry.engine.library).__version__)
    try:
        require_fit(entry.engine, version=version, gpu=find_gpu(), what=name)
    except BundleError as error:
        raise BackendError(str(error)) from error


class _Run:
    """The reference's scores, computed on creation, and the comparison of other files with them."""

    def __init__(
        self,
        bundle: Bundle,
        clip_sets: Sequence[ClipSet],
        num_threads: int | None,
        progress: Progress | None,
    ) -> None:
        self._bundle = bundle
        self._num_threads = num_threads
        self._progress = progress
        backend = self._open(Variant(REFERENCE))
        self.reference = backend.name
        with closing(backend):
            scorer = self._scorer(backend, Variant(REFERENCE), clip_sets)
            try:
                self._expected = [(clips, scorer.score(clips, (1,))) for clips in clip_sets]
            except CheckError as error:
                raise BundleError(
                    f"{bundle.path}: the reference {error}; nothing can be compared with it, export it again"
                ) from error

    def _open(self, variant: Variant) -> Backend:
        return variant.open(self._bundle, self._num_threads)

    def _scorer(self, backend: Backend, variant: Variant, clip_sets: Sequence[ClipSet]) -> Scorer:
        num_clips = sum(len(clips.frames) for clips in clip_sets)
        return Scorer(backend, variant.label, self._bundle.manifest, num_clips, self._progress)

    def compare(self, variant: Variant, tolerance: Tolerance) -> Iterator[Comparison]:
        """Yield the comparison on each clip set; the reference itself is compared on noise only."""
        repeats = variant == Variant(REFERENCE)
        expected = [e for e in self._expected if not repeats or e[0].indices is None]
        with closing(self._open(variant)) as backend:
            scorer = self._scorer(backend, variant, [clips for clips, _ in expected])
            sizes = batch_sizes(self._bundle.manifest.files[variant.file])
            for clips, heads in expected:
                got = scorer.score(clips, sizes)
                yield Comparison(
                    variant=variant,
                    backend=backend.name,
                    clips=clips.name,
                    num_clips=len(clips.frames),
                    batch_sizes=sizes,
                    heads={head: compare_head(values, got[head]) for head, values in heads.items()},
                    segments=self._compare_segments(clips, heads, got),
                    tolerance=tolerance,
                )

    def compare_pictures(self, variant: Variant, tolerance: Tolerance) -> Iterator[Comparison]:
        """Yield, for each video, the comparison of the reference's scores on pictures of `--hwdec`.

        Raises:
            BackendError: the file is a plan, or the graph cannot draw any picture of the video.
        """
        if variant.file != PREPROCESS_MODEL:
            raise BackendError(
                f"draws on a GPU; the effect of its pictures is reported for {PREPROCESS_MODEL}"
            )
        graph = PictureGraph(self._bundle, self._num_threads)
        videos = [expected for expected in self._expected if expected[0].path is not None]
        with closing(self._open(Variant(REFERENCE))) as backend:
            scorer = self._scorer(backend, variant, [clips for clips, _ in videos])
            for clips, heads in videos:
                yield self._compare_video(graph, scorer, clips, heads, variant, tolerance)

    def compare_temporal_head(self, variant: Variant, tolerance: Tolerance) -> Iterator[Comparison]:
        """Yield the comparison of a head in short chunks with the fp32 head on all frames, by clip set.

        Both get the features that the reference gives for the clips; noise counts as one video.
        """
        whole = TemporalHead(self._bundle, HEAD_MODELS[0])
        parts = TemporalHead(self._bundle, variant.file)
        with closing(self._open(Variant(REFERENCE))) as backend:
            for clips, _ in self._expected:
                features = _features(backend, clips.frames)
                scores, actionness, _ = whole.infer(features)
                got = _in_chunks(parts, features)
                heads = {"frame_scores": compare_head(scores, got.action)}
                if got.actionness is not None:
                    heads["actionness"] = compare_head(actionness[:, None], got.actionness[:, None])
                yield Comparison(
                    variant=variant,
                    backend=f"onnxruntime, {counted(len(features), 'frame')}",
                    clips=clips.name,
                    num_clips=len(clips.frames),
                    batch_sizes=(_HEAD_CHUNK_FRAMES,),
                    heads=heads,
                    segments=None,
                    tolerance=tolerance,
                )

    def _compare_video(
        self,
        graph: PictureGraph,
        scorer: Scorer,
        clips: ClipSet,
        heads: Heads,
        variant: Variant,
        tolerance: Tolerance,
    ) -> Comparison:
        assert clips.path is not None
        graph.num_drawn = graph.num_others = 0
        spec, num_clips = self._bundle.manifest.clip_spec, len(clips.frames)
        drawn = video_clips(clips.path, spec, num_clips, name=clips.name, converter=graph.converter)
        if not graph.num_drawn:
            raise BackendError(f"{clips.name} has pictures that --hwdec converts on the CPU too")
        got = scorer.score(drawn, (1,))
        return Comparison(
            variant=variant,
            backend=graph.name,
            clips=clips.name,
            num_clips=num_clips,
            batch_sizes=(1,),
            heads={head: compare_head(values, got[head]) for head, values in heads.items()},
            segments=self._compare_segments(clips, heads, got),
            tolerance=tolerance,
            pictures=PictureDifference.of(clips.frames, drawn.frames, graph.num_drawn, graph.num_others),
        )

    def _compare_segments(self, clips: ClipSet, expected: Heads, got: Heads) -> SegmentAgreement | None:
        if clips.indices is None:
            return None
        first, second = (self._segments(clips, clips.indices, heads) for heads in (expected, got))
        return compare_segments(first, second)

    def _segments(self, clips: ClipSet, indices: npt.NDArray[np.int64], heads: Heads) -> list[Segment]:
        scores = IntervalScores(indices=indices, action=heads["action_scores"], breaks=clips.breaks)
        manifest = self._bundle.manifest
        return find_segments(scores, manifest.action_labels, manifest.clip_spec, manifest.segment_rules)[0]
