"""`tsm-verify`: what the model files of a bundle say on this machine, beside what they have to say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.errors import CheckError, TsmError
from tsm_runtime.terminal import printable, terminal_bars, warn, write_stdout

if TYPE_CHECKING:  # imports of numpy, av and rich wait until they are needed: --help answers at once
    from tsm_runtime.verification.score import Progress

_MOST_CLIPS = 1000  # held in memory: 1.6 GB at 8 x 256 x 256

app = new_app()

_HELP = """Compare every model file of a bundle that this machine can run with model.fp32.onnx on the CPU.

All of them score the same seeded noise and the same frames of a video. The table shows the largest and the
relative error of a probability and the share of clips with the same most probable class, for each output,
and the share of the video's segments that both models find. The manifest keeps the last result of each
machine, and the bundle stays the same bundle. What this machine cannot run, an engine for another GPU for
instance, is listed and is no failure.

Of preprocess.onnx, which tsm-run --hwdec runs on a GPU, the table shows what model.fp32.onnx makes of its
pictures of the video; a line states how many levels of 255 these differ from those of the CPU.

\b
Exit codes:
  0  all that was compared is within tolerance
  4  the bundle cannot be used
  5  nothing can be run here: onnxruntime is not installed
  6  a file is beyond tolerance, was altered, or gives no probabilities
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """What is verified, on what it runs, and what is shown; None: not given."""

    bundle: Annotated[Path, typer.Argument(help="folder that tsm-export wrote")]
    video: Annotated[
        Path | None,
        typer.Option(
            help="compare on its frames; best is footage of your own [default: the embedded demo video]"
        ),
    ] = None
    clips: Annotated[
        int, typer.Option(help="at most so many clips from the video's start", min=1, max=_MOST_CLIPS)
    ] = 64
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="largest allowed difference of a probability, for every file [default: by precision; int8 is"
            " judged by agreement]",
            show_default=False,
        ),
    ] = None
    backend: Annotated[
        Literal["auto", "onnxruntime-cuda", "openvino", "all"],
        typer.Option(
            help="what runs the files; auto: what runs files of their kind by default; openvino: ONNX files,"
            " fp32 in bf16 too; all: each of these"
        ),
    ] = "auto"
    threads: Annotated[int | None, typer.Option(help="threads on the CPU [default: all cores]", min=1)] = None
    device: Annotated[
        str, typer.Option(help="GPU by its number, as nvidia-smi lists it; each of several, as 0,1 or all")
    ] = "0"
    json_: Annotated[bool, typer.Option("--json", help="one JSON object, agreement 0 to 1")] = False
    no_write: Annotated[bool, typer.Option("--no-write", help="leave the manifest as it is")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress bar, no warnings")] = False


@command(app, text=_HELP)
def tsm_verify(*, request: VerifyRequest, version: Annotated[bool, version_option()] = False) -> None:
    """Verify a bundle (its help is `_HELP`)."""
    from tsm_runtime.backends.cuda.device_numbers import device_numbers
    from tsm_runtime.bundle.bundle import load_bundle
    from tsm_runtime.bundle.finding import demo_folder
    from tsm_runtime.verification.clip_sets import DEMO_VIDEO, noise_clips, video_clips
    from tsm_runtime.verification.record import to_verification, write_verification
    from tsm_runtime.verification.table import verification_to_json, verification_to_text
    from tsm_runtime.verification.variants import CHOICES
    from tsm_runtime.verification.verify import verify

    devices, opened = device_numbers(request.device), load_bundle(request.bundle)
    spec = opened.manifest.clip_spec
    if request.video is None:
        footage = video_clips(demo_folder() / "video.mp4", spec, request.clips, name=DEMO_VIDEO)
    else:
        footage = video_clips(request.video, spec, request.clips)
    with verification_bar(quiet=request.quiet) as progress:
        report = verify(
            opened,
            [noise_clips(spec), footage],
            choices=CHOICES if request.backend == "all" else (request.backend,),
            max_abs_error=request.tolerance,
            num_threads=request.threads,
            progress=progress,
            devices=devices,
        )
    warnings = list(footage.warnings)
    result = to_verification(report, opened, request.tolerance)
    if not request.no_write:
        try:
            write_verification(opened, result)
        except TsmError as error:  # a bundle that is for reading only can be verified all the same
            warnings.append(str(error))
    for line in () if request.quiet else warnings:
        warn(line)
    if request.json_:
        write_stdout(verification_to_json(report, opened, result))
    else:
        write_stdout(verification_to_text(report, opened))
    if failed := ", ".join(report.failed_files):
        raise CheckError(f"{request.bundle}: failed: {failed}; do not use what failed, export it again")


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-verify")


@contextmanager
def verification_bar(*, quiet: bool = False) -> Iterator[Progress | None]:
    """Show a bar while the block runs, and take it away afterwards.

    Args:
        quiet: show none.

    Yields:
        What `run.verify` reports to; None where nothing is shown.
    """
    with terminal_bars(quiet=quiet) as bar:
        if bar is None:
            yield None
            return
        task = bar.add_task("", total=None)
        shown = ""

        def report(file: str, num_done: int, num_clips: int) -> None:
            nonlocal shown
            if file != shown:  # the next file: its time left is not that of the one before
                bar.reset(task, description=printable(file), total=num_clips)
                shown = file
            bar.update(task, completed=num_done)

        yield report
