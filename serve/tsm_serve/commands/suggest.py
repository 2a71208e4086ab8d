"""`tsm-suggest`: which videos or moments to label next."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.terminal import warn, write_stdout

if TYPE_CHECKING:
    from tsm_serve.suggest.ranking import Suggestion

app = new_app()

_SOME_FAILED = 1


@command(app)
def tsm_suggest(
    folder: Annotated[Path, typer.Argument(help="folder of videos, searched at any depth")],
    model: Annotated[
        list[Path], typer.Option("--model", "-m", help="bundle; several are compared with each other")
    ],
    truth: Annotated[
        Path | None, typer.Option(help="annotations: their videos are labelled and not suggested")
    ] = None,
    budget: Annotated[float | None, typer.Option(help="minutes to label [default: all]", min=0.01)] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="compare each model with itself on mirrored pictures")
    ] = False,
    moments: Annotated[bool, typer.Option("--moments", help="rank parts of 10 s, not whole videos")] = False,
    format_: Annotated[Literal["json", "csv"], typer.Option("--format", help="of the output")] = "json",
    output: Annotated[str, typer.Option("--output", "-o", help="file, or - for stdout")] = "-",
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Rank unlabelled videos by what labels would teach: doubt, disagreement, novelty, rare classes."""
    if output != "-" and not Path(output).parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {Path(output).parent}")
    from contextlib import ExitStack

    from tsm_runtime.api import load
    from tsm_runtime.files import write_whole
    from tsm_runtime.formats.annotations import read_annotations
    from tsm_runtime.video.finding import VideoInput
    from tsm_serve.review.videos import find_videos
    from tsm_serve.suggest.ranking import suggest
    from tsm_serve.suggest.scoring import score_videos

    videos = [VideoInput(video.path, video.video_id) for video in find_videos(folder)]
    labelled = {v.video_id for v in read_annotations(truth).videos} if truth else set()
    evidence, failed = [], 0
    with ExitStack() as opened:
        models = [opened.enter_context(load(path)) for path in model]
        for scored in score_videos(videos, models, mirror=mirror, labelled=frozenset(labelled)):
            if scored.evidence is None:
                failed += 1
                warn(f"tsm-suggest: {scored.error}; left out")
            else:
                evidence.append(scored.evidence)
    if not evidence:
        raise VideoError(f"{folder}: no video could be scored")
    seconds = float("inf") if budget is None else 60 * budget
    chosen = suggest(evidence, budget_seconds=seconds, by_moment=moments)
    data = _as_csv(chosen) if format_ == "csv" else _as_json(chosen)
    if output == "-":
        write_stdout(data)
    else:
        write_whole(Path(output), data)
    if failed:
        raise typer.Exit(_SOME_FAILED)


def _as_json(chosen: list[Suggestion]) -> bytes:
    import msgspec

    return msgspec.json.format(msgspec.json.encode({"suggestions": chosen}), indent=1) + b"\n"


def _as_csv(chosen: list[Suggestion]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("video", "start", "end", "value", "reason"))
    writer.writerows((s.video_id, s.start_seconds, s.end_seconds, s.value, s.reason) for s in chosen)
    return text.getvalue().encode("utf-8", "backslashreplace")


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-suggest")


if __name__ == "__main__":
    main()
