"""The options of `tsm-run` on files and captures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tsm_runtime.archive.addresses import is_remote
from tsm_runtime.archive.choice import ArchiveOptions
from tsm_runtime.archive.ray_run import RayOptions
from tsm_runtime.commands.option_groups import MachineFlags, OutputFlags, PartFlags
from tsm_runtime.commands.run_captures import CaptureRequest
from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.pipeline.isolation import Limits
from tsm_runtime.pipeline.options import Options
from tsm_runtime.video.finding import Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRequest:
    """Options of the command as given; None where not."""

    videos: tuple[str, ...] = ()
    captures: CaptureRequest | None = None
    outputs: OutputFlags = field(default_factory=OutputFlags)
    scores: Path | None = None
    features: Path | None = None
    part: PartFlags = field(default_factory=PartFlags)
    machine: MachineFlags = field(default_factory=MachineFlags)
    ids: Ids = "auto"
    archive: ArchiveOptions = field(default_factory=ArchiveOptions)
    ray: RayOptions | None = None
    isolation: Limits | None = None
    metrics: str | None = None
    scratch_gibibytes: float = 8.0
    quiet: bool = False

    def __post_init__(self) -> None:
        if any(video == "-" or ("://" in video and not is_remote(video)) for video in self.videos):
            raise UsageError("an address or - is a stream: use tsm-live")
        if self.ray is not None:
            self._check_ray()
        if self.isolation is not None and self.machine.hwdec != "none":
            raise UsageError(f"--isolate decodes on the CPU: leave out --hwdec {self.machine.hwdec}")
        if self.archive.continues:
            self._check_continued()
        if self.captures is not None:
            self._check_captures(self.captures.option)

    def _check_continued(self) -> None:
        """Refuse files that hold all videos: those done before are not read again."""
        whole = {"--scores": self.scores, "--features": self.features, "--summary": self.outputs.summary}
        for option, given in whole.items():
            if given:
                raise UsageError(f"{option} would hold the videos of this run alone: leave out --resume")
        if self.outputs.no_clobber:
            raise UsageError("--no-clobber beside --resume, which adds to a folder: take one of them")

    def _check_captures(self, option: str) -> None:
        if self.videos:
            raise UsageError(f"{self.videos[0]} beside {option}: which view is it? name it with --view")
        alone = {
            "--overlay": self.outputs.overlay,
            "--scores": self.scores,
            "--features": self.features,
            "--report": self.outputs.report,
            "--embed": self.outputs.embed or None,
            "--truth": self.outputs.truth,
            "--clips": self.outputs.clips,
            "--start": self.part.start or None,
            "--end": self.part.end,
        }
        for name, given in alone.items():
            if given is not None:
                raise UsageError(f"{name} is for a video alone: leave it out beside {option}")

    def check_remote(self) -> None:
        """Check the options of a run with videos in a store or on a web server.

        Raises:
            UsageError: an option is for videos on this machine.
        """
        here = {
            "--overlay": self.outputs.overlay,
            "--report": self.outputs.report,
            "--clips": self.outputs.clips,
            "--checksum": self.archive.checksum or None,
        }
        for name, given in here.items():
            if given is not None:
                raise UsageError(f"{name} is for videos on this machine: leave it out for addresses")

    def _check_ray(self) -> None:
        here = {
            "--overlay": self.outputs.overlay,
            "--scores": self.scores,
            "--features": self.features,
            "--report": self.outputs.report,
            "--clips": self.outputs.clips,
            "--summary": self.outputs.summary,
            "--jobs": self.machine.jobs,
            "--device with several": len(self.machine.devices) > 1 or None,
        }
        for name, given in here.items():
            if given is not None:
                raise UsageError(f"{name} is for runs on this machine: leave it out beside --ray")

    def options(self, ensemble: Ensemble, num_members: int) -> Options:
        """Return the options of the run."""
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
