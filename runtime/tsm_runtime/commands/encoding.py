"""How the results of a run on files become bytes."""

from __future__ import annotations

from collections.abc import Mapping

from tsm_runtime.commands.checked_run import CheckedRun
from tsm_runtime.outputs.output_names import label_ids_for
from tsm_runtime.outputs.sinks import Encoding
from tsm_runtime.results import BACKGROUND


def encoding_for(run: CheckedRun, described: Mapping[str, object]) -> Encoding:
    """Return how results become bytes.

    Args:
        run: its request names the output and its format, its bundles the labels.
        described: see `pipeline.description.describe_run`.

    Raises:
        UsageError: a label map that is wrong or for another format.
    """
    request, plans = run.request, run.inputs.plans
    format_ = request.outputs.chosen_format
    action_labels = list(dict.fromkeys(label for b in run.bundles for label in b.manifest.action_labels))
    external_data = dict(described)
    if request.captures.given:
        external_data["captures"] = {
            plan.capture_id: {video.video_id: begin for video, begin in plan.begins} for plan in plans
        }
    return Encoding(
        format=format_,
        external_data=external_data,
        media={plan.capture_id: plan.named.path for plan in plans},
        label_ids=label_ids_for(format_, request.outputs.label_map, action_labels),
        columns=request.outputs.columns,
        labels=[label for label in action_labels if label != BACKGROUND],
    )
