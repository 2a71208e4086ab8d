"""What `tsm-convert` does: read as ground truth or as results, write in the other format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tsm_runtime.errors import UsageError
from tsm_runtime.files import is_folder, read_text, write_whole
from tsm_runtime.formats.annotations import annotation_format, read_annotations
from tsm_runtime.formats.csv_table import CSV_COLUMNS, header_of
from tsm_runtime.formats.ground_truth import GroundTruth, VideoAnnotation
from tsm_runtime.formats.ground_truth_json import truth_to_json
from tsm_runtime.formats.names import Format
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.formats.read_write import read_results
from tsm_runtime.formats.result_file import result_of_segments
from tsm_runtime.outputs.output_names import check_output, choose_format, means_folder
from tsm_runtime.outputs.sinks import Encoding, open_sink
from tsm_runtime.results import Result
from tsm_runtime.terminal import warn, write_stdout
from tsm_runtime.video.finding import VideoInput, list_inputs

Target = Literal["activitynet", Format]


def convert_file(
    source: Path,
    output: str,
    target: Target | None,
    *,
    videos: Path | None,
    subset: str,
    options: ReadOptions,
) -> None:
    """Read a file or folder of annotations or segments, and write it in another format.

    Raises:
        UsageError: an option, the input or an entry is wrong; nothing is written.
        RunError: the output cannot be written.
    """
    media = _media(videos)
    truth, results = _read(source, options)
    if not results:
        raise UsageError(f"{source}: holds no annotated video")
    if target == "activitynet" or (target is None and output.lower().endswith(".json")):
        _write_truth(output, truth_to_json(truth, subset))
        return
    format_ = choose_format(output, target)
    inputs = [VideoInput(media.get(r.video_id, Path(r.video_id)), r.video_id) for r in results]
    check_output(output, inputs, format_)
    here = {result.video_id: media[result.video_id] for result in results if result.video_id in media}
    encoding = Encoding(format=format_, media=here, frame_rate=options.frame_rate)
    sink = open_sink(output, format_, encoding)
    for result in results:
        sink.add(result)
    sink.close()


def _media(videos: Path | None) -> dict[str, Path]:
    if videos is None:
        return {}
    found, _ = list_inputs([videos], ids="auto")
    return {video.video_id: video.path for video in found}


def _read(source: Path, options: ReadOptions) -> tuple[Sequence[VideoAnnotation], list[Result]]:
    """Return the videos as annotations and as results; files with scores keep them in the results."""
    if is_folder(source) or _is_only_truth(source, options):
        truth = read_annotations(source, options=options, empty_segments="count")
        _warn_of(truth)
        return truth.videos, [result_of_segments(v.video_id, v.segments) for v in truth.videos]
    results = list(read_results(source, options=options).results.values())
    videos = [
        VideoAnnotation(
            video_id=result.video_id,
            subset="",
            duration_seconds=result.duration_seconds or None,
            scene=max(result.scenes, key=lambda scene: scene.score).label if result.scenes else None,
            segments=result.segments,
        )
        for result in results
    ]
    return videos, results


def _is_only_truth(source: Path, options: ReadOptions) -> bool:
    """Return whether a file is one of the formats that `read_results` does not read."""
    if options.columns:
        return False
    kind = annotation_format(source)
    return kind in ("activitynet", "mmaction2") or (
        kind == "csv" and CSV_COLUMNS[-1] not in header_of(read_text(source))
    )


def _warn_of(truth: GroundTruth) -> None:
    for line in truth.warnings:
        warn(line)


def _write_truth(output: str, data: bytes) -> None:
    if output == "-":
        write_stdout(data)
        return
    if means_folder(output) or not is_folder(Path(output).parent):
        raise UsageError(f"{output}: is a folder, or there is no folder {Path(output).parent}")
    write_whole(Path(output), data)
