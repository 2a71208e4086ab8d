"""Options of `tsm-run`: what is written, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from tsm_runtime.commands.grouped_options import panel
from tsm_runtime.errors import UsageError
from tsm_runtime.formats.names import FORMAT_NAMES, Format

if TYPE_CHECKING:
    from tsm_runtime.formats.csv_table import ExtraColumn
    from tsm_runtime.outputs.cuts.spans import CutRequest

_output = panel("Output")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFlags:
    """What is written, and where; None: not given."""

    output: Annotated[
        str | None, _output("--output", "-o", help="file, folder (a file per video) or - for stdout")
    ] = None
    format: Annotated[
        Format | None,
        _output(
            "--format",
            metavar="NAME",
            help=f"one of {', '.join(FORMAT_NAMES)} [default: by the output's name, else json]",
        ),
    ] = None
    label_map: Annotated[
        Path | None, _output(help='class ids for kaggle, as JSON {"label": 1} [default: the 34 of 360+x]')
    ] = None
    overlay: Annotated[
        Path | None,
        _output(
            help="also write the video with its labels burnt in, as .mp4, .mov or .mkv; or a folder for many"
        ),
    ] = None
    report: Annotated[
        Path | None, _output(help="also write a page (.html) with the video, a timeline and all scores")
    ] = None
    embed: Annotated[bool, _output("--embed", help="put the videos into the report's page")] = False
    truth: Annotated[
        Path | None, _output(help="annotations to show beside what was found, in the report")
    ] = None
    summary: Annotated[
        list[Path] | None,
        _output(
            "--summary",
            help="also write seconds, bouts and mean bout per class and video (.csv), or their picture (.svg,"
            " .png); repeatable",
            show_default=False,
        ),
    ] = None
    csv_columns: Annotated[
        str | None,
        _output(
            help="further columns of CSV output: scene, duration, model, separated by commas",
            show_default=False,
        ),
    ] = None
    no_clobber: Annotated[bool, _output("--no-clobber", help="replace no file: end if one is there")] = False
    clips: Annotated[
        Path | None, _output(help="folder for what was found as files of video, cut at key frames")
    ] = None
    clips_exact: Annotated[
        bool, _output("--clips-exact", help="cut clips at the exact frame, encoding them")
    ] = False
    clips_padding: Annotated[float, _output(help="seconds before and after a segment in clips", min=0)] = 0.0
    clips_reel: Annotated[bool, _output("--clips-reel", help="one clip a video, with all segments")] = False

    @property
    def chosen_format(self) -> Format:
        """The requested format, or that of the output's name."""
        from tsm_runtime.outputs.output_names import choose_format

        return choose_format(self.output, self.format)

    @property
    def into_folder(self) -> bool:
        """Whether the output is a folder, with a file for each video."""
        from tsm_runtime.outputs.output_names import means_folder

        return self.output not in (None, "", "-") and means_folder(str(self.output))

    @property
    def columns(self) -> tuple[ExtraColumn, ...]:
        """The further columns of CSV output.

        Raises:
            UsageError: a column is unknown, or the format has no columns to add.
        """
        from tsm_runtime.formats.csv_table import EXTRA_COLUMNS

        if self.csv_columns is None:
            return ()
        names = tuple(dict.fromkeys(name.strip() for name in self.csv_columns.split(",")))
        if self.chosen_format != "csv":
            raise UsageError(f"--csv-columns is for CSV, not {self.chosen_format}: give --format csv")
        if unknown := [name for name in names if name not in EXTRA_COLUMNS]:
            raise UsageError(
                f"--csv-columns {self.csv_columns}: no column {unknown[0]!r}; there are"
                f" {', '.join(EXTRA_COLUMNS)}"
            )
        return cast("tuple[ExtraColumn, ...]", names)

    def cuts(self) -> CutRequest | None:
        """Return how segments are cut; None: not at all.

        Raises:
            UsageError: an option of clips without their folder.
        """
        from tsm_runtime.outputs.cuts.spans import CutRequest

        if self.clips is None:
            if self.clips_exact or self.clips_padding or self.clips_reel:
                raise UsageError("--clips-exact, --clips-padding and --clips-reel go with --clips FOLDER")
            return None
        return CutRequest(
            folder=self.clips,
            exact=self.clips_exact,
            padding_seconds=self.clips_padding,
            reel=self.clips_reel,
        )
