"""`tsm-inspect`: what a configuration will be trained on, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.errors import UsageError
from tsm_runtime.terminal import terminal_bars, warn, write_stdout
from tsm_runtime.wording import counted

if TYPE_CHECKING:
    from tsm_train.data.inspection import Report
    from tsm_train.data.problems import Problems
    from tsm_train.data.split import Split
    from tsm_train.sections.data import DataConfig

app = new_app()


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectRequest:
    """What is looked at, and what is written; None: not given."""

    config: Annotated[
        str, typer.Argument(help="the run's TOML file, or the name of a shipped one", show_default=False)
    ]
    data: Annotated[
        Path | None,
        typer.Option(help="folder where the configuration's relative paths start; a shipped one needs it"),
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="replace a key, as data.root=PATH; repeatable"),
    ] = None
    json_: Annotated[bool, typer.Option("--json", help="one JSON object")] = False
    output: Annotated[str, typer.Option("--output", "-o", help="file, or - for stdout")] = "-"
    exact: Annotated[
        bool, typer.Option("--exact", help="decode every video for its length, not only where there is doubt")
    ] = False
    write_split: Annotated[
        Path | None,
        typer.Option(help="divide the captures, stratified by scene and class, and write them to this file"),
    ] = None
    validation: Annotated[float, typer.Option(help="for --write-split: share of the captures")] = 0.2
    test: Annotated[float, typer.Option(help="for --write-split: share that is kept apart")] = 0.0
    folds: Annotated[int, typer.Option(help="for --write-split: this many folds instead")] = 0
    seed: Annotated[int, typer.Option(help="for --write-split", min=0)] = 0
    force: Annotated[bool, typer.Option("--force", help="replace the split file; offsets stay")] = False

    def check(self) -> None:
        """Refuse what cannot be written, before a file is read.

        Raises:
            UsageError: names the option.
        """
        if self.output != "-" and not Path(self.output).parent.is_dir():
            raise UsageError(f"--output {self.output}: there is no folder {Path(self.output).parent}")
        if self.write_split is not None and self.write_split.exists() and not self.force:
            raise UsageError(f"{self.write_split}: exists; choose another name, or --force to replace it")

    def split(self, data: DataConfig) -> Split | None:
        """Return the split to write; None: none."""
        from tsm_train.data.make_split import make_split

        if self.write_split is None:
            return None
        return make_split(
            data,
            self.write_split,
            validation=self.validation,
            test=self.test,
            folds=self.folds,
            seed=self.seed,
        )


@command(app)
def tsm_inspect(*, request: InspectRequest, version: Annotated[bool, version_option()] = False) -> None:
    """Print what would be trained on, and every problem; exit code 2 where one of them spoils training.

    Videos, seconds, instances and intervals by class, subset and scene; overlap of actions; missing files.
    """
    request.check()
    from tsm_train.config import load_config
    from tsm_train.data.dataset import open_data
    from tsm_train.data.inspection import inspect_data
    from tsm_train.presets import config_path

    settings = load_config(config_path(request.config, request.data), request.set_ or [], root=request.data)
    split = request.split(settings.data)
    with _progress() as on_video:
        opened = open_data(
            settings.data,
            settings.clip.interval_seconds,
            projection=settings.clip.projection,
            split=split,
            exact_lengths=request.exact,
            on_video=on_video,
        )
    _write_report(request, inspect_data(opened, settings.clip.interval_seconds))
    next_step = ""
    if request.write_split is not None and split is not None:
        if _may_be_written(opened.problems):
            _write(split, request.write_split, settings.data)
            next_step = f"; fill in the offsets in {request.write_split}"
        else:
            next_step = f"; {request.write_split} was not written"
    if errors := opened.problems.errors:
        problems = counted(len(errors), "problem")
        raise UsageError(f"{request.config}: {problems} would spoil training{next_step}")


def _write_report(request: InspectRequest, report: Report) -> None:
    import msgspec

    from tsm_runtime.files import write_whole
    from tsm_train.data.inspection_text import report_to_text

    content = report_to_text(report).encode()
    if request.json_:
        content = msgspec.json.format(msgspec.json.encode(report)) + b"\n"
    if request.output == "-":
        write_stdout(content)
    else:
        write_whole(Path(request.output), content)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Yield what shows on a terminal how many videos were looked at."""
    with terminal_bars() as progress:
        if progress is None:
            yield lambda done, total: None
            return
        task = progress.add_task("looking at videos", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _may_be_written(problems: Problems) -> bool:
    """Whether a split is sound: without errors, or with those alone that filling in its offsets removes."""
    waits = any(problem.kind == "no-offset" for problem in problems.warnings)
    return all(waits and problem.kind == "no-instance" for problem in problems.errors)


def _write(split: Split, path: Path, data: DataConfig) -> None:
    from tsm_runtime.files import write_whole
    from tsm_train.data.split import encode_split

    write_whole(path, encode_split(split))
    same = data.split and Path(data.split).resolve() == path.resolve()
    warn(f"wrote {path}" + ("" if same else f'; next: data.split = "{path}" in the configuration'))


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-inspect")
