"""Compares every model file of a bundle that this machine can run with the reference, on each clip set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Backend
from tsm_runtime.backends.cuda.gpu import find_gpu
from tsm_runtime.backends.tensorrt.library import import_library
from tsm_runtime.backends.tensorrt.plan_fit import require_fit
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.bundle.manifest import ModelFile
from tsm_runtime.errors import BackendError, BundleError, CheckError, RunError, TsmError
from tsm_runtime.results import IntervalScores, Segment
from tsm_runtime.segments.find import find_segments
from tsm_runtime.terminal import printable
from tsm_runtime.verification.clip_sets import ClipSet, video_clips
from tsm_runtime.verification.compare import SegmentAgreement, compare_head, compare_segments
from tsm_runtime.verification.comparison import Comparison
from tsm_runtime.verification.feature_models import (
    FeatureComparison,
    compare_sound,
    compare_temporal_head,
    compare_views,
)
from tsm_runtime.verification.pictures import PictureDifference, PictureGraph
from tsm_runtime.verification.score import Heads, Progress, Scorer, batch_sizes
from tsm_runtime.verification.tolerances import Tolerance, tolerance_for
from tsm_runtime.verification.variants import Choice, Variant, variants_of
from tsm_runtime.video.preprocess import PREPROCESS_MODEL

REFERENCE = "model.fp32.onnx"
"""Reference file for all others, run on onnxruntime's CPU provider with one clip per call."""


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
    devices: Sequence[int] = (0,),
) -> VerificationReport:
    """Compare every model file of a bundle that this machine can run with the reference.

    Args:
        bundle: the bundle to verify; the hash of each file is checked, also of files that cannot be run.
        clip_sets: inputs of the comparison.
        choices: engines that run the files.
        max_abs_error: replaces every precision's own tolerance.
        num_threads: threads on the CPU; default: all cores.
        progress: called with the progress of each file.
        devices: numbers of the GPUs; with several, what runs on a GPU is compared on each.

    Raises:
        BundleError: the reference is missing, altered, or does not return probabilities.
        BackendError: the reference cannot be run here: onnxruntime is not installed.
        RunError: the reference failed.
        UsageError: `max_abs_error` is out of range.
    """
    files = bundle.manifest.files
    tolerance_for("fp32", max_abs_error)  # before any work is done
    run = _Run(bundle, clip_sets, num_threads, progress, devices[0])
    comparisons: list[Comparison] = []
    failed: dict[Variant, str] = {}
    not_run: dict[str, str] = {}
    names = sorted(files, key=lambda name: (name != REFERENCE, name))
    for variant in (each for name in names for each in variants_of(name, files[name], choices, devices)):
        tolerance = tolerance_for(variant.precision(files[variant.file]), max_abs_error)
        try:
            for comparison in run.of(variant, tolerance):
                comparisons.append(comparison)  # appended one by one, as the next may fail
        except BackendError as error:
            not_run[variant.label] = _line(error)
        except (BundleError, CheckError, RunError) as error:
            failed[variant] = _line(error)
    return VerificationReport(
        reference=run.reference, comparisons=tuple(comparisons), failed=failed, not_run=not_run
    )


def _line(error: TsmError) -> str:
    """Return the error as one printable line, for tables and JSON."""
    return printable(" ".join(str(error).splitlines()))


def _require_this_machine(name: str, entry: ModelFile, device: int) -> None:
    """Refuse a plan for another machine, which is skipped and not a failure.

    Raises:
        BackendError: the plan is for another GPU or version, or there is no GPU or library here.
    """
    if entry.engine is None:
        return
    version = str(import_library(entry.engine.library).__version__)
    try:
        require_fit(entry.engine, version=version, gpu=find_gpu(device), what=name)
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
        device: int,
    ) -> None:
        self._bundle, self._device = bundle, device
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

    def of(self, variant: Variant, tolerance: Tolerance) -> Iterator[Comparison]:
        """Yield the comparisons of a variant whose file is whole and for this machine."""
        entry = self._bundle.manifest.files[variant.file]
        self._bundle.model_bytes(variant.file)
        _require_this_machine(variant.file, entry, self._device if variant.device is None else variant.device)
        by_kind = {"preprocess": self.compare_pictures, **self.of_features}
        yield from by_kind.get(entry.kind, self.compare)(variant, tolerance)

    @property
    def of_features(self) -> Mapping[str, Callable[[Variant, Tolerance], Iterator[Comparison]]]:
        """The comparisons of files that take features, by kind."""

        def compare(of: FeatureComparison, variant: Variant, tolerance: Tolerance) -> Iterator[Comparison]:
            with closing(self._open(Variant(REFERENCE))) as backend:
                for clips, heads in self._expected:
                    yield of(self._bundle, variant, tolerance, clips, heads, backend)

        return {
            "head": partial(compare, compare_temporal_head),
            "audio": partial(compare, compare_sound),
            "views": partial(compare, compare_views),
        }

    def _open(self, variant: Variant) -> Backend:
        return variant.open(self._bundle, self._num_threads, self._device)

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
                yield self._comparison(variant, tolerance, backend.name, clips, heads, got, sizes)

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
        found = self._comparison(variant, tolerance, graph.name, clips, heads, got, (1,))
        pictures = PictureDifference.of(clips.frames, drawn.frames, graph.num_drawn, graph.num_others)
        return replace(found, pictures=pictures)

    def _comparison(
        self,
        variant: Variant,
        tolerance: Tolerance,
        backend: str,
        clips: ClipSet,
        expected: Heads,
        got: Heads,
        batch_sizes: tuple[int, ...],
    ) -> Comparison:
        return Comparison(
            variant=variant,
            backend=backend,
            clips=clips.name,
            num_clips=len(clips.frames),
            batch_sizes=batch_sizes,
            heads={head: compare_head(values, got[head]) for head, values in expected.items()},
            tolerance=tolerance,
            segments=self._compare_segments(clips, expected, got),
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
