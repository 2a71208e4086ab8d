"""The options of `tsm-run`: their types, names and help; the defaults stand in the command's signature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tsm_runtime.formats.names import FORMAT_NAMES, Format

# --- Which models on which videos.
Videos = Annotated[
    list[str] | None,
    typer.Argument(help="video files, or folders with videos", show_default=False),
]
Models = Annotated[
    list[Path] | None,
    typer.Option(
        "--model",
        "-m",
        rich_help_panel="Models and videos",
        help="bundle folder; given several times: an ensemble, which decodes once"
        " [default: $TSM_MODEL, ./bundle, the demo model]",
        show_default=False,
    ),
]
Captures = Annotated[
    list[Path] | None,
    typer.Option(
        rich_help_panel="Models and videos",
        help="folder in the layout of 360+x (panoramic/ID.mp4, third_person/ID.mp4,"
        " binocular/ID/clip1.mp4), or FOLDER/ID: each model runs on the videos of its view, and a"
        " capture's are fused",
        show_default=False,
    ),
]
Views = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel="Models and videos",
        help="VIEW=FILE or VIEW=FILE@SECONDS, for each video of one capture, and where it begins on the"
        " capture's time line [default: 0; required for binocular and monocular clips]",
        show_default=False,
    ),
]
Offsets = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel="Models and videos",
        help="where videos of captures begin: a split file, CSV video,offset_seconds, or auto",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        rich_help_panel="Models and videos",
        help="of several models: w1,w2,... in their order, above 0 [default: equal]",
    ),
]
Iou = Annotated[
    float | None,
    typer.Option(
        rich_help_panel="Models and videos",
        help="of several models: segments whose temporal IoU exceeds it overlap [default: 0.5]",
    ),
]
Denominator = Annotated[
    Literal["all", "present"] | None,
    typer.Option(
        rich_help_panel="Models and videos",
        help="of several models: whose weights divide the weighted sum of confidences: of all, or of"
        " those that found the segment [default: all]",
    ),
]
Method = Annotated[
    Literal["paper", "wbf", "nms", "soft-nms-linear", "soft-nms-gaussian"] | None,
    typer.Option(
        rich_help_panel="Models and videos",
        help="of several models: what becomes of overlapping segments [default: paper]",
    ),
]
Ensemble = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel="Models and videos",
        help="ensemble.toml: bundles, weights and options, as tsm-fuse reads it",
    ),
]

# --- What is written.
Output = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", rich_help_panel="Output", help="file, folder (a file per video) or - for stdout"
    ),
]
FormatName = Annotated[
    Format | None,
    typer.Option(
        "--format",
        rich_help_panel="Output",
        metavar="NAME",
        help=f"one of {', '.join(FORMAT_NAMES)} [default: by the output's name, else json]",
    ),
]
LabelMap = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel="Output", help='class ids for kaggle, as JSON {"label": 1} [default: the 34 of 360+x]'
    ),
]
Overlay = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel="Output",
        help="also write the video with its labels burnt in, as .mp4, .mov or .mkv; or a folder for many",
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel="Output", help="also write a page (.html) with the video, a timeline and all scores"
    ),
]
Embed = Annotated[
    bool, typer.Option("--embed", rich_help_panel="Output", help="put the videos into the report's page")
]
Summary = Annotated[
    list[Path] | None,
    typer.Option(
        "--summary",
        rich_help_panel="Output",
        help="also write seconds, bouts and mean bout per class and video (.csv), or their picture (.svg,"
        " .png); repeatable",
        show_default=False,
    ),
]
CsvColumns = Annotated[
    str | None,
    typer.Option(
        rich_help_panel="Output",
        help="further columns of CSV output: scene, duration, model, separated by commas",
        show_default=False,
    ),
]
NoClobber = Annotated[
    bool,
    typer.Option("--no-clobber", rich_help_panel="Output", help="replace no file: end if one is there"),
]
Clips = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel="Output", help="folder for what was found as files of video, cut at key frames"
    ),
]
ClipsExact = Annotated[
    bool,
    typer.Option(
        "--clips-exact", rich_help_panel="Output", help="cut clips at the exact frame, encoding them"
    ),
]
ClipsPadding = Annotated[
    float, typer.Option(rich_help_panel="Output", help="seconds before and after a segment in clips", min=0)
]
ClipsReel = Annotated[
    bool, typer.Option("--clips-reel", rich_help_panel="Output", help="one clip a video, with all segments")
]
Truth = Annotated[
    Path | None,
    typer.Option(rich_help_panel="Output", help="annotations to show beside what was found, in the report"),
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

# --- Around the scores.
Smoothing = Annotated[
    float | None,
    typer.Option(
        rich_help_panel="Scores",
        help="seconds over which scores are averaged; 0: none [default: the bundle's]",
        min=0,
    ),
]
MinDuration = Annotated[
    float | None,
    typer.Option(
        rich_help_panel="Scores",
        help="drop segments shorter than so many seconds [default: the bundle's]",
        min=0,
    ),
]
Window = Annotated[
    float | None,
    typer.Option(
        rich_help_panel="Scores",
        help="seconds around an interval's middle that its frames are from; 0: the interval"
        " [default: the bundle's]",
        min=0,
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
Scores = Annotated[
    Path | None,
    typer.Option(
        help="also write the scores of intervals, and of frames if segments are made of these: .npz, .csv,"
        " .parquet"
    ),
]
Features = Annotated[
    Path | None,
    typer.Option(help="also write the pooled features of all frames with their times: .npz, .csv, .parquet"),
]
Flip = Annotated[
    bool,
    typer.Option(
        "--flip",
        rich_help_panel="Scores",
        help="score each clip also mirrored and take the mean: twice the computation",
    ),
]
Stride = Annotated[
    float | None,
    typer.Option(
        rich_help_panel="Scores",
        help="seconds from one interval to the next, a whole part of its length; 0: they do not overlap"
        " [default: the bundle's]",
        min=0,
    ),
]

# --- Which part of a video.
Start = Annotated[
    float, typer.Option(rich_help_panel="Part of a video", help="begin at this second of the video", min=0)
]
End = Annotated[
    float | None,
    typer.Option(
        rich_help_panel="Part of a video", help="stop at this second [default: the video's end]", min=0
    ),
]
VideoId = Annotated[
    str | None,
    typer.Option(
        "--id",
        rich_help_panel="Part of a video",
        help="name of the one video in the output [default: its file name]",
    ),
]

# --- The machine.
Batch = Annotated[
    int | None,
    typer.Option(
        rich_help_panel="Machine",
        help="clips per call of the model [default: 1 on a CPU, more on a GPU]",
        min=1,
        show_default=False,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        rich_help_panel="Machine",
        help="videos at a time, whose clips share batches [default: 1 on a CPU, 1 for every 4 cores"
        " beside a GPU, with --hwdec 1 for every decoder of the GPU]",
        min=1,
        max=64,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(rich_help_panel="Machine", help="threads of the model [default: all cores]", min=1),
]
Precision = Annotated[
    Literal["fp32", "fp16", "bf16", "int8"] | None,
    typer.Option(
        rich_help_panel="Machine",
        help="which of the bundle's models [default: fp16 on a GPU, fp32 on the CPU]; bf16: the fp32 one"
        " in bfloat16, on openvino and a CPU that has it",
    ),
]
Backend = Annotated[
    Literal["auto", "onnxruntime", "onnxruntime-cuda", "openvino", "tensorrt"] | None,
    typer.Option(
        rich_help_panel="Machine",
        help="what runs it; auto: the fastest of a plan that runs here, onnxruntime on a GPU, and the CPU"
        " [default: auto]",
    ),
]
Hwdec = Annotated[
    Literal["none", "auto", "cuda"],
    typer.Option(
        rich_help_panel="Machine",
        help="decode on the GPU (NVDEC), for --backend tensorrt and onnxruntime-cuda, frames stay there;"
        " auto: if that works, else on the CPU, and says so",
    ),
]
GpuNumbers = Annotated[
    str,
    typer.Option(
        "--device",
        rich_help_panel="Machine",
        help="GPU by its number; several, as 0,1 or all, share the videos",
    ),
]
Rebuild = Annotated[
    bool,
    typer.Option(
        "--rebuild",
        rich_help_panel="Machine",
        help="rebuild a plan that is for another GPU or version, and keep it",
    ),
]

Rate = Annotated[
    float | None,
    typer.Option(
        rich_help_panel="Machine",
        help="frames per second of videos that hold no times, such as raw MJPEG; others ignore it"
        " [default: 25 is assumed, with a warning]",
        show_default=False,
    ),
]
Playlists = Annotated[
    bool,
    typer.Option(
        "--allow-playlists",
        rich_help_panel="Machine",
        help="also read playlists (HLS, concat lists), whose files must lie below the playlist's folder",
    ),
]

# --- Archives.
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        rich_help_panel="Archives",
        help="skip videos whose result is in the --output folder, from the same content, bundle and options",
    ),
]
Checksum = Annotated[
    bool,
    typer.Option(
        "--checksum",
        rich_help_panel="Archives",
        help="with --resume: compare contents by SHA-256, not by size and time",
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed",
        rich_help_panel="Archives",
        help="as --resume, and run those again that failed before",
    ),
]
ShardText = Annotated[
    str | None,
    typer.Option(
        "--shard",
        rich_help_panel="Archives",
        help="run a fixed share of the videos, as 3/16, by a hash of their ids: for arrays of jobs",
        show_default=False,
    ),
]
IdKind = Annotated[
    Literal["auto", "stem", "path"],
    typer.Option(
        "--ids",
        rich_help_panel="Archives",
        help="names of videos in the output: the file's stem, or its path below the folder; auto: by path"
        " where two stems are equal",
    ),
]

Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate",
        rich_help_panel="Archives",
        help="decode each video in a process of its own: a crash or hang costs that video alone",
    ),
]
MemoryLimit = Annotated[
    int | None,
    typer.Option(
        rich_help_panel="Archives",
        help="MiB that decoding a video may take; with --isolate, which it implies",
        min=128,
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        rich_help_panel="Archives",
        help="seconds that decoding a video may take; with --isolate, which it implies",
        min=0.1,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        rich_help_panel="Archives",
        help="run on a Ray cluster: its address, auto for this machine's, local for a new one here",
        show_default=False,
    ),
]
Workers = Annotated[
    int,
    typer.Option(rich_help_panel="Archives", help="--ray: actors; 0: as many as there is room for", min=0),
]
WorkerCpus = Annotated[float, typer.Option(rich_help_panel="Archives", help="--ray: cores of each actor")]
WorkerGpus = Annotated[
    float, typer.Option(rich_help_panel="Archives", help="--ray: GPUs of each actor", min=0)
]

ScratchSize = Annotated[
    float, typer.Option(help="GiB for copies of videos from s3://, gs:// and https://", min=0.001)
]

# --- Watching a run.
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

# --- The rest.
LiveAlias = Annotated[
    bool, typer.Option("--live", help="run on a stream: the same as tsm-live, with its options")
]
Demo = Annotated[bool, typer.Option("--demo", help="run the embedded model on the embedded video")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress bar, no warnings")]
