"""`run_ablation`: train what is missing, run it on the videos, fuse, choose settings, and write the table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from tsm_runtime.errors import BackendError, RunError, UsageError
from tsm_runtime.files import write_whole
from tsm_runtime.formats.result_file import ResultFile
from tsm_runtime.wording import counted
from tsm_train.ablation.after_scores import choose_settings
from tsm_train.ablation.config import Ablation
from tsm_train.ablation.ensembles import mixtures, write_fused
from tsm_train.ablation.members import (
    Member,
    check_members,
    members_of,
    run_member,
    task_of,
    train_member,
)
from tsm_train.ablation.paper import PAPER_TABLE, PaperRow, coinciding
from tsm_train.ablation.plan import clips_per_epoch
from tsm_train.ablation.rows import Row, Scored, compared, score_file
from tsm_train.ablation.table import Table, notes_of, table_to_json, table_to_markdown
from tsm_train.ablation.videos import Footage, open_footage, truth_of, truth_to_json

_log = logging.getLogger("tsm_runtime")


def run_ablation(
    ablation: Ablation,
    folder: Path,
    *,
    device: str = "auto",
    only: Sequence[str] = (),
    train: bool = True,
    force: bool = False,
) -> Table:
    """Train and score all members that are not trained yet, and write the table of all that are.

    Args:
        ablation: what to do.
        folder: gets members/NAME (run folders), segments/SUBSET, scores, table.json, table.md, table.png.
        device: `auto`, `cpu` or `cuda`.
        only: names of the members to train; empty: all.
        train: False: only score what is trained.
        force: train the members of `only` again.

    Raises:
        UsageError: the configuration or the data do not fit, a member was begun with another configuration,
            or no member is trained.
        BackendError: the requested device is not there.
        VideoError: no video can be read.
        RunError: a training failed, or a file cannot be written.
    """
    for name in only:
        ablation.check_member(name, "--only")
    where = _device(device)
    footage = open_footage(ablation)
    members = members_of(ablation, folder)
    check_members([m for m in members if not (force and m.name in only)], footage.finest)
    if train:
        requested = [member for member in members if not only or member.name in only]
        _train(requested, device=device, force=force)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot make the folder ({error.strerror or error})") from error
    table = _Scoring(ablation, footage, folder, where).table(members)
    _write(table, folder)
    return table


def _device(device: str) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        raise BackendError("--device cuda: PyTorch sees no CUDA device here; take --device cpu or auto")
    return torch.device("cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda")


def _train(members: Sequence[Member], *, device: str, force: bool) -> None:
    for number, member in enumerate(members, start=1):
        if member.is_finished and not force:
            _log.warning(f"{member.name}: trained already ({counted(member.epochs, 'epoch')})")
            continue
        goes_on = f", goes on after epoch {member.epochs}" if member.epochs and not force else ""
        _log.warning(f"{member.name}: training, {number} of {len(members)}{goes_on}")
        train_member(member, device=device, force=force)


def _write(table: Table, folder: Path) -> None:
    from tsm_train.ablation.plot import draw_table

    write_whole(folder / "table.json", table_to_json(table))
    write_whole(folder / "table.md", table_to_markdown(table))
    write_whole(folder / "table.png", draw_table(table))


@dataclass(frozen=True, slots=True)
class _Scoring:
    """From trained members to the table."""

    ablation: Ablation
    footage: Footage
    folder: Path
    device: torch.device

    def table(self, members: Sequence[Member]) -> Table:
        trained = [member for member in members if member.is_finished]
        if not trained:
            raise UsageError(f"{self.folder}: no member is trained yet; leave out --score-only")
        for subset in self.footage.subsets:
            path = self._file(subset, "ground_truth")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, truth_to_json(self.footage.videos(subset)))
        files = {subset: self._run(trained, subset) for subset in self.footage.subsets}
        by_validation = {
            member.name: self._score(self.footage.validation_subset, member.name).evaluation.average_map
            for member in trained
        }
        reported = files[self.footage.reported_subset]
        rows = [self._member_row(m, reported[m.name], by_validation[m.name]) for m in trained]
        rows += self._ensemble_rows(files, by_validation)
        rows += self._settings_rows(trained, files, by_validation)
        missing = tuple(member.name for member in members if member not in trained)
        return self._compared(rows, missing)

    def _file(self, subset: str, name: str) -> Path:
        return self.folder / "segments" / subset / f"{name}.json"

    def _score(self, subset: str, name: str) -> Scored:
        return score_file(self._file(subset, name), self.footage.videos(subset))

    def _run(self, members: Sequence[Member], subset: str) -> dict[str, ResultFile]:
        videos = self.footage.videos(subset)
        return {
            m.name: run_member(m, videos, self._file(subset, m.name), device=self.device) for m in members
        }

    def _row(self, name: str) -> Row:
        """Return the row of a file of segments, as far as it follows from that."""
        subset = self.footage.reported_subset
        scored = self._score(subset, name)
        return Row(
            name=name,
            kind="member",
            segments=self._file(subset, name).relative_to(self.folder).as_posix(),
            map=scored.evaluation.average_map,
            tiou=scored.tiou,
            scene_top1=scored.scene_top1,
        )

    def _member_row(self, member: Member, reported: ResultFile, validation_map: float) -> Row:
        config = member.config
        data = self.footage.by_interval[config.clip.interval_seconds]
        task = task_of(config, data)
        clips = clips_per_epoch(config, data)
        external = reported.external_data
        return msgspec.structs.replace(
            self._row(member.name),
            task=task,
            backbone=config.model.backbone,
            interval_seconds=config.clip.interval_seconds,
            shift=config.model.shift,
            epochs=member.epochs,
            best_epoch=member.checkpoint().epoch,
            clips_per_epoch=clips,
            minutes=member.seconds / 60,
            clips_per_second=clips * member.epochs / member.seconds if member.seconds else None,
            run_clips_per_second=external.get("clips_per_second") if isinstance(external, dict) else None,
            validation_map=validation_map,
            paper=coinciding(config, task),
        )

    def _ensemble_rows(
        self, files: Mapping[str, Mapping[str, ResultFile]], by_validation: Mapping[str, float]
    ) -> list[Row]:
        config, names = self.ablation.ensemble, self.ablation.fused_names
        if config is None or not set(names) <= by_validation.keys():
            return []
        validation = [files[self.footage.validation_subset][name] for name in names]
        truth = truth_of(self.footage.videos(self.footage.validation_subset))
        rows = []
        for mixture in mixtures(config, [by_validation[name] for name in names], validation, truth):
            detail: dict[str, object] = {}
            for subset in self.footage.subsets:
                fused = {name: files[subset][name] for name in names}
                detail = write_fused(mixture, fused, self._file(subset, mixture.name))
            rows.append(
                msgspec.structs.replace(
                    self._row(mixture.name),
                    kind="ensemble",
                    detail=detail,
                    validation_map=self._score(
                        self.footage.validation_subset, mixture.name
                    ).evaluation.average_map,
                    in_sample=mixture.is_fitted and not self.footage.is_held_out,
                    paper=self._paper_ensemble(names) if mixture.name == "ensemble-validation" else None,
                )
            )
        return rows

    def _paper_ensemble(self, names: Sequence[str]) -> PaperRow | None:
        """Return the paper's ensemble where all members are the paper's, though which it took is unknown."""
        configs = [self.ablation.members[name] for name in names]
        tasks = [task_of(c, self.footage.by_interval[c.clip.interval_seconds]) for c in configs]
        is_like = all(coinciding(c, task) for c, task in zip(configs, tasks, strict=True))
        return PAPER_TABLE[-1] if is_like else None

    def _settings_rows(
        self,
        trained: Sequence[Member],
        files: Mapping[str, Mapping[str, ResultFile]],
        by_validation: Mapping[str, float],
    ) -> list[Row]:
        config = self.ablation.post_processing
        if config is None:
            return []
        best = max(by_validation, key=lambda name: by_validation[name])
        requested = config.members or (best,)
        rows = []
        for member in trained:
            if member.name not in requested:
                continue
            mine = {subset: found[member.name] for subset, found in files.items()}
            store = self.folder / "scores"
            for chosen in choose_settings(member, config, self.footage, mine, store, device=self.device):
                path = self._file(self.footage.reported_subset, chosen.name)
                write_whole(path, chosen.to_json())
                row = self._row(chosen.name)
                rows.append(
                    msgspec.structs.replace(
                        row, kind="post-processing", detail=dict(chosen.detail), scene_top1=None
                    )
                )
        return rows

    def _compared(self, rows: Sequence[Row], missing: tuple[str, ...]) -> Table:
        subset = self.footage.reported_subset
        scored = {row.name: self._score(subset, row.name) for row in rows}
        first = scored[rows[0].name]
        done = tuple(compared(row, scored[row.name], first) for row in rows)
        return Table(
            name=self.ablation.name,
            config=self.ablation.path.name,
            subset=subset,
            validation_subset=self.footage.validation_subset,
            videos=len(first.matching.videos),
            instances=first.evaluation.num_truth,
            actions=self.footage.finest.actions,
            scenes=self.footage.finest.scenes,
            rows=done,
            not_trained=missing,
            notes=notes_of(done, self.footage, missing, self.ablation),
            paper=PAPER_TABLE,
        )
