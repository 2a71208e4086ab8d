"""The options of `tsm-run`, as the request that it takes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import tsm_runtime.commands.model_options as options
from tsm_runtime.archive.addresses import is_remote
from tsm_runtime.commands.archive_options import ArchiveFlags, IsolationFlags, RayFlags, archives
from tsm_runtime.commands.grouped_options import panel
from tsm_runtime.commands.machine_options import MachineFlags, PartFlags
from tsm_runtime.commands.output_options import OutputFlags
from tsm_runtime.errors import UsageError

if TYPE_CHECKING:
    from tsm_runtime.fusion.ensemble_file import Ensemble
    from tsm_runtime.models.member import Overrides
    from tsm_runtime.pipeline.options import Options

_models = panel("Models and videos")

AUTO = Path("auto")
"""In place of a file of offsets: look for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureFlags:
    """Videos of captures; None: not given."""

    capture: Annotated[
        list[Path] | None,
        _models(
            help="folder in the layout of 360+x (panoramic/ID.mp4, third_person/ID.mp4,"
            " binocular/ID/clip1.mp4), or FOLDER/ID: each model runs on the videos of its view, and a"
            " capture's are fused",
            show_default=False,
        ),
    ] = None
    view: Annotated[
        list[str] | None,
        _models(
            help="VIEW=FILE or VIEW=FILE@SECONDS, for each video of one capture, and where it begins on the"
            " capture's time line [default: 0; required for binocular and monocular clips]",
            show_default=False,
        ),
    ] = None
    offsets: Annotated[
        Path | None,
        _models(help="where videos of captures begin: a split file, CSV video,offset_seconds, or auto"),
    ] = None

    @property
    def given(self) -> bool:
        """Whether captures are run, not single videos."""
        return bool(self.capture or self.view)

    @property
    def option(self) -> str:
        """The option that names the videos."""
        return "--capture" if self.capture else "--view"

    def check(self) -> None:
        """Refuse options that do not go together.

        Raises:
            UsageError: names the options.
        """
        if self.capture and self.view:
            raise UsageError("--capture beside --view: the first finds the videos, the second names them")
        if self.view and self.offsets not in (None, AUTO):
            raise UsageError("--offsets beside --view: write VIEW=FILE@SECONDS")
        if self.offsets is not None and not self.given:
            raise UsageError("--offsets is for captures: give --capture")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRequest:
    """The options of a run on files and captures; None: not given."""

    videos: Annotated[
        list[str] | None, typer.Argument(help="video files, or folders with videos", show_default=False)
    ] = None
    model: options.Models = None
    captures: CaptureFlags
    fusion: options.FusionFlags
    outputs: OutputFlags
    min_score: options.MinScore = None
    around: options.ScoreFlags
    flip: Annotated[
        bool,
        typer.Option(
            "--flip",
            rich_help_panel="Scores",
            help="score each clip also mirrored and take the mean: twice the computation",
        ),
    ] = False
    decoding: options.DecodingMethod = None
    scores: Annotated[
        Path | None,
        typer.Option(
            help="also write the scores of intervals, and of frames if segments are made of these: .npz,"
            " .csv, .parquet"
        ),
    ] = None
    features: Annotated[
        Path | None,
        typer.Option(
            help="also write the pooled features of all frames with their times: .npz, .csv, .parquet"
        ),
    ] = None
    part: PartFlags
    machine: MachineFlags
    archive: ArchiveFlags
    ids: Annotated[
        Literal["auto", "stem", "path"],
        archives(
            "--ids",
            help="names of videos in the output: the file's stem, or its path below the folder; auto: by path"
            " where two stems are equal",
        ),
    ] = "auto"
    scratch: Annotated[
        float, typer.Option(help="GiB for copies of videos from s3://, gs:// and https://", min=0.001)
    ] = 8.0
    metrics: options.Metrics = None
    log_json: options.LogJson = False
    isolation: IsolationFlags
    cluster: RayFlags
    live: Annotated[
        bool, typer.Option("--live", help="run on a stream: the same as tsm-live, with its options")
    ] = False
    demo: Annotated[bool, typer.Option("--demo", help="run the embedded model on the embedded video")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress bar, no warnings")] = False

    def check(self) -> None:
        """Refuse options that do not go together, before a file is read.

        Raises:
            UsageError: names the option.
        """
        if not (self.videos or self.captures.given):
            raise UsageError("no video given; try: tsm-run VIDEO, or tsm-run --demo")
        if any(video == "-" or ("://" in video and not is_remote(video)) for video in self.videos or ()):
            raise UsageError("an address or - is a stream: use tsm-live")
        self.captures.check()
        self._check_decoding()
        if self.cluster.ray is not None:
            self._check_ray()
        if self.archive.request().continues:
            self._check_continued()
        if self.captures.given:
            self._check_captures(self.captures.option)

    def _check_decoding(self) -> None:
        hwdec = self.machine.hwdec
        if self.flip and hwdec != "none":
            raise UsageError(f"--flip mirrors frames in main memory: leave out --hwdec {hwdec}")
        if self.isolation.limits() is not None and hwdec != "none":
            raise UsageError(f"--isolate decodes on the CPU: leave out --hwdec {hwdec}")

    def _check_continued(self) -> None:
        """Refuse files that hold all videos: those done before are not read again."""
        names = ("scores", "features", "summary")
        self._refuse(names, "would hold the videos of this run alone: leave out --resume")
        if self.outputs.no_clobber:
            raise UsageError("--no-clobber beside --resume, which adds to a folder: take one of them")

    def _check_captures(self, option: str) -> None:
        if self.videos:
            raise UsageError(f"{self.videos[0]} beside {option}: which view is it? name it with --view")
        names = ("overlay", "scores", "features", "report", "embed", "truth", "clips", "start", "end")
        self._refuse(names, f"is for a video alone: leave it out beside {option}")

    def check_remote(self) -> None:
        """Check the options of a run with videos in a store or on a web server.

        Raises:
            UsageError: an option is for videos on this machine.
        """
        names = ("overlay", "report", "clips", "checksum")
        self._refuse(names, "is for videos on this machine: leave it out for addresses")

    def _check_ray(self) -> None:
        here = "is for runs on this machine: leave it out beside --ray"
        self._refuse(("overlay", "scores", "features", "report", "clips", "summary", "jobs"), here)
        if len(self.machine.devices) > 1:
            raise UsageError(f"--device with several {here}")

    def _refuse(self, names: tuple[str, ...], why: str) -> None:
        """Refuse the first of some options that is not at its default."""
        groups: tuple[Any, ...] = (self, self.outputs, self.part, self.machine, self.archive)
        given = {f.name for group in groups for f in fields(group) if getattr(group, f.name) != f.default}
        for name in names:
            if name in given:
                raise UsageError(f"--{name} {why}")

    def overrides(self) -> Overrides:
        """Return the replacements for the bundles' settings."""
        return self.around.overrides(self.decoding, flip=self.flip)

    def options(self, ensemble: Ensemble, num_members: int) -> Options:
        """Return the options of the run."""
        from tsm_runtime.pipeline.options import Options

        return Options(
            start_seconds=self.part.start,
            end_seconds=self.part.end,
            # An ensemble drops after the fusion: weak segments support those of other members.
            min_score=ensemble.min_score if num_members == 1 else 0.0,
            batch_size=self.machine.batch,
            rate=self.machine.rate,
            allow_playlists=self.machine.playlists,
            keep_features=self.features is not None,
            fusion=ensemble.options,
        )
