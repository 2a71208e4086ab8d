"""Inputs of `tsm-run` on files and captures, and the check of its outputs, before the models are opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tsm_runtime.archive.addresses import is_remote
from tsm_runtime.archive.choice import check_options
from tsm_runtime.archive.scratch import Scratch
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.captures.selection import CapturePlan, plan_of_video
from tsm_runtime.commands.file_request import FileRequest
from tsm_runtime.commands.no_clobber import check_no_clobber
from tsm_runtime.commands.run_captures import capture_plans, views_of_members
from tsm_runtime.errors import VideoError
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.outputs.cuts.sink import check_cuts
from tsm_runtime.outputs.output_names import check_output
from tsm_runtime.outputs.overlay import check_overlay
from tsm_runtime.outputs.report.sink import ReportRequest, report_request
from tsm_runtime.outputs.score_file import check_array_file
from tsm_runtime.outputs.summary.sink import check_summary
from tsm_runtime.video.finding import MEDIA_SUFFIXES, VIDEO_SUFFIXES, list_inputs, read_list


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What is run.

    Args:
        views: that each member of the ensemble sees; an empty one is that of plain videos.
        errors: of paths without a video.
        warnings: one line each.
    """

    plans: Sequence[CapturePlan]
    views: Sequence[tuple[str, ...]]
    errors: Sequence[VideoError] = ()
    warnings: Sequence[str] = ()


def find_inputs(
    request: FileRequest, ensemble: Ensemble, bundles: Sequence[Bundle], scratch: Scratch
) -> Inputs:
    """Return the videos or captures of a run; addresses get paths in the scratch folder.

    Raises:
        UsageError: an input cannot be listed, two videos have one id, or an option is not for addresses.
        BackendError: the package for an address is not installed.
    """
    if not request.captures.given:
        names = _names(request.videos or ())
        remote = [name for name in names if is_remote(name)]
        if remote:
            request.check_remote()
        hears = any(bundle.manifest.sound_input is not None for bundle in bundles)
        suffixes = MEDIA_SUFFIXES if hears else VIDEO_SUFFIXES
        found = dict(zip(remote, scratch.find(remote, suffixes), strict=True)) if remote else {}
        paths = [found[name][0] if name in found else Path(name) for name in names]
        listed = dict(found.values())
        videos, errors = list_inputs(paths, request.part.video_id, request.ids, listed, suffixes)
        return Inputs(plans=[*map(plan_of_video, videos)], views=[("",)] * len(bundles), errors=errors)
    views, assumed = views_of_members(ensemble, bundles)
    plans = capture_plans(request.captures, request.part.video_id, ensemble, views)
    return Inputs(plans=plans, views=views, warnings=assumed)


def _names(given: Sequence[str]) -> list[str]:
    """Return the paths and addresses that are meant; `@LIST` is a list, unless a file is called so."""
    names: list[str] = []
    for name in given:
        is_list = name.startswith("@") and not Path(name).exists()
        names += read_list(Path(name[1:])) if is_list else [name]
    return names


def check_outputs(request: FileRequest, plans: Sequence[CapturePlan]) -> ReportRequest | None:
    """Check the names of all files that are to be written; return the request for a report, if any.

    Raises:
        UsageError: a name does not fit, or would overwrite a video.
    """
    named = [plan.named for plan in plans]
    check_output(request.outputs.output, named, request.outputs.format)
    check_output(request.outputs.output, [video for plan in plans for video, _ in plan.begins], "json")
    check_options(request.archive.request(), has_folder=request.outputs.into_folder)
    if request.outputs.overlay is not None:
        check_overlay(request.outputs.overlay, named, request.outputs.output)
    check_summary(request.outputs.summary or (), named, request.outputs.output)
    _ = request.outputs.columns
    if request.outputs.no_clobber:
        check_no_clobber(request, named)
    if (cuts := request.outputs.cuts()) is not None:
        check_cuts(cuts, named)
    if request.scores is not None:
        check_array_file("--scores", request.scores, [request.outputs.output])
    if request.features is not None:
        check_array_file("--features", request.features, [request.outputs.output, request.scores])
    return report_request(
        request.outputs.report, request.outputs.embed, request.outputs.truth, named, request.outputs.output
    )
