"""Options of commands that open models: which models, how they are fused, and how their scores are used.

The requests that they build are imported where they are built: --help answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tsm_runtime.commands.grouped_options import panel

if TYPE_CHECKING:
    from tsm_runtime.models.member import Overrides

_models, _scores, _machine = panel("Models and videos"), panel("Scores"), panel("Machine")

Models = Annotated[
    list[Path] | None,
    _models(
        "--model",
        "-m",
        help="bundle folder; given several times: an ensemble, which decodes once"
        " [default: $TSM_MODEL, ./bundle, the demo model]",
        show_default=False,
    ),
]
MinScore = Annotated[
    float | None,
    typer.Option(
        rich_help_panel="Output",
        help="drop segments below this score; of several models candidates and fused segments, as"
        " tsm-fuse [default: 0]",
        min=0,
        max=1,
    ),
]
DecodingMethod = Annotated[
    Literal["clips", "merge", "viterbi", "durations", "proposals"] | None,
    typer.Option(
        "--decoding",
        help="how segments are made: of the scores of clips, or by a method for the scores of frames"
        " [default: the bundle's]",
    ),
]
Threads = Annotated[int | None, _machine(help="threads of the model [default: all cores]", min=1)]
Precision = Annotated[
    Literal["fp32", "fp16", "bf16", "int8"] | None,
    _machine(
        help="which of the bundle's models [default: fp16 on a GPU, fp32 on the CPU]; bf16: the fp32 one"
        " in bfloat16, on openvino and a CPU that has it"
    ),
]
Backend = Annotated[
    Literal["auto", "onnxruntime", "onnxruntime-cuda", "openvino", "tensorrt"] | None,
    _machine(
        help="what runs it; auto: the fastest of a plan that runs here, onnxruntime on a GPU, and the CPU"
        " [default: auto]"
    ),
]
Rebuild = Annotated[
    bool, _machine("--rebuild", help="rebuild a plan that is for another GPU or version, and keep it")
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        help="serve /metrics (Prometheus) and /healthz on PORT of this machine, or HOST:PORT",
        show_default=False,
    ),
]
LogJson = Annotated[
    bool, typer.Option("--log-json", help="report on standard error as JSON, one line an event")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionFlags:
    """How the results of several models are fused; None: not given."""

    weights: Annotated[
        str | None,
        _models(help="of several models: w1,w2,... in their order, above 0 [default: equal]"),
    ] = None
    iou: Annotated[
        float | None,
        _models(help="of several models: segments whose temporal IoU exceeds it overlap [default: 0.5]"),
    ] = None
    denominator: Annotated[
        Literal["all", "present"] | None,
        _models(
            help="of several models: whose weights divide the weighted sum of confidences: of all, or of"
            " those that found the segment [default: all]"
        ),
    ] = None
    method: Annotated[
        Literal["paper", "wbf", "nms", "soft-nms-linear", "soft-nms-gaussian"] | None,
        _models(help="of several models: what becomes of overlapping segments [default: paper]"),
    ] = None
    ensemble: Annotated[
        Path | None,
        _models(help="ensemble.toml: bundles, weights and options, as tsm-fuse reads it"),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFlags:
    """Replacements for the bundle's settings; None: as in the bundle."""

    smoothing: Annotated[
        float | None,
        _scores(help="seconds over which scores are averaged; 0: none [default: the bundle's]", min=0),
    ] = None
    min_duration: Annotated[
        float | None,
        _scores(help="drop segments shorter than so many seconds [default: the bundle's]", min=0),
    ] = None
    window: Annotated[
        float | None,
        _scores(
            help="seconds around an interval's middle that its frames are from; 0: the interval"
            " [default: the bundle's]",
            min=0,
        ),
    ] = None
    stride: Annotated[
        float | None,
        _scores(
            help="seconds from one interval to the next, a whole part of its length; 0: they do not overlap"
            " [default: the bundle's]",
            min=0,
        ),
    ] = None

    def overrides(self, decoding: DecodingMethod, *, flip: bool = False) -> Overrides:
        """Return the replacements."""
        from tsm_runtime.models.member import Overrides

        return Overrides(
            smoothing_seconds=self.smoothing,
            min_duration_seconds=self.min_duration,
            window_seconds=self.window,
            stride_seconds=self.stride,
            decoding=decoding,
            flip=flip,
        )
