"""How the results of a run on files become bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.captures.selection import CapturePlan
from tsm_runtime.commands.file_request import FileRequest
from tsm_runtime.errors import UsageError
from tsm_runtime.formats.csv_table import EXTRA_COLUMNS, ExtraColumn
from tsm_runtime.formats.names import Format
from tsm_runtime.outputs.sinks import Encoding, choose_format, label_ids_for
from tsm_runtime.results import BACKGROUND


def extra_columns(given: str | None, format_: Format) -> tuple[ExtraColumn, ...]:
    """Return the columns that `--csv-columns` names.

    Raises:
        UsageError: a column is unknown, or the format has no columns to add.
    """
    if given is None:
        return ()
    names = tuple(dict.fromkeys(name.strip() for name in given.split(",")))
    if format_ != "csv":
        raise UsageError(f"--csv-columns is for CSV, not {format_}: give --format csv")
    if unknown := [name for name in names if name not in EXTRA_COLUMNS]:
        raise UsageError(
            f"--csv-columns {given}: no column {unknown[0]!r}; there are {', '.join(EXTRA_COLUMNS)}"
        )
    return cast("tuple[ExtraColumn, ...]", names)


def encoding_for(
    request: FileRequest,
    plans: Sequence[CapturePlan],
    bundles: Sequence[Bundle],
    described: Mapping[str, object],
) -> Encoding:
    """Return how results become bytes.

    Args:
        request: names the output and its format.
        plans: all videos or captures of the run.
        bundles: name the labels.
        described: see `pipeline.description.describe_run`.

    Raises:
        UsageError: a label map that is wrong or for another format.
    """
    format_ = choose_format(request.outputs.output, request.outputs.format)
    action_labels = list(dict.fromkeys(label for b in bundles for label in b.manifest.action_labels))
    external_data = dict(described)
    if request.captures is not None:
        external_data["captures"] = {
            plan.capture_id: {video.video_id: begin for video, begin in plan.begins} for plan in plans
        }
    return Encoding(
        format=format_,
        external_data=external_data,
        media={plan.capture_id: plan.named.path for plan in plans},
        label_ids=label_ids_for(format_, request.outputs.label_map, action_labels),
        columns=extra_columns(request.outputs.csv_columns, format_),
        labels=[label for label in action_labels if label != BACKGROUND],
    )
