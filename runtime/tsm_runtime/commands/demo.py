"""The embedded demo: a small trained bundle and a drawn video, both made by `make demo-model`."""

from __future__ import annotations

from pathlib import Path

import typer

from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.protocol import Evaluation, evaluate
from tsm_runtime.formats.ground_truth import read_ground_truth
from tsm_runtime.models.opening import open_member
from tsm_runtime.outputs.table import print_comparison
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import Result, Segment


def score_demo(folder: Path) -> tuple[Result, tuple[Segment, ...], Evaluation]:
    """Run the demo's model on its video; return what was found, what is true, and the scores.

    Raises:
        BackendError: no backend is installed.
        BundleError: the embedded bundle was altered.
    """
    truth = read_ground_truth(folder / "ground_truth.json").videos[0]
    result = run(folder / "video.mp4", open_member(load_bundle(folder / "bundle")), video_id=truth.video_id)
    evaluation = evaluate({truth.video_id: truth.segments}, {truth.video_id: result.segments})
    return result, truth.segments, evaluation


def refuse_options(context: typer.Context) -> None:
    """Refuse what stands beside `--demo` on the command line: nothing would come of it.

    Raises:
        UsageError: names the first such option, or the video.
    """
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        given = source is not None and source.name == "COMMANDLINE"
        if given and name not in ("demo", "quiet", "log_json") and context.params.get(name):
            shown = parameter.opts[0] if parameter.opts[0].startswith("-") else "a video"
            raise UsageError(f"--demo takes no other option, got {shown}; leave out --demo, or the rest")


def run_demo() -> None:
    """Print the found segments beside the true ones, the scene, and the mAP."""
    print_comparison(*score_demo(demo_folder()))
