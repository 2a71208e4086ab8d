"""Writing a model into a Triton model repository: whole or not at all, beside the models that are there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from tsm_export.triton.model_config import Served, config_text, differences, head_labels, label_file, served
from tsm_export.triton.settings import Settings
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.errors import RunError, UsageError
from tsm_runtime.files import exchange_folder
from tsm_runtime.terminal import printable

CONFIG = "config.pbtxt"
MARKER = "tsm-triton.json"
"""File in every model folder of this command; folders without it are not replaced. Triton ignores it."""


class Marker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The models that the versions in a folder were written from."""

    versions: dict[int, Served]


def version_to_write(repository: Path, name: str, requested: int | None) -> int:
    """Return the number of the version to write: the requested one, or 1 if the model has no other version.

    Raises:
        UsageError: no version was requested and the model has others, or another program wrote the folder.
    """
    there = sorted(_versions(repository / name))
    if requested is None and there not in ([], [1]):
        numbers = ", ".join(map(str, there))
        raise UsageError(
            f"{repository / name} has version {numbers}; say which to write, as --model-version"
            f" {there[-1] + 1} for a new one"
        )
    return requested or 1


def write_model(bundle: Bundle, repository: Path, settings: Settings) -> tuple[int, ...]:
    """Write a version of a model and the configuration of all its versions.

    Args:
        bundle: where the model comes from; the hash of its file is checked.
        repository: its folder, made where there is none; other models in it stay as they are.
        settings: how the model is served. Other versions of its folder stay.

    Returns:
        The numbers of the other versions.

    Raises:
        UsageError: the folder was not written by this command, or its other versions are of another model.
        BundleError: the model file is missing or altered.
        BackendError: tritonclient is not installed.
        RunError: something cannot be written; the old model stays.
    """
    folder = repository / settings.name
    new = served(bundle, settings)
    kept = {number: one for number, one in _versions(folder).items() if number != settings.version}
    for number, other in kept.items():
        _check_kept(folder, number, other, new, settings)
    config, model = config_text(bundle, settings), bundle.model_bytes(settings.file)
    marker = Marker(versions={**kept, settings.version: new})
    with _staged(repository, settings.name) as stage:
        for number in kept:
            shutil.copytree(folder / str(number), stage / str(number), copy_function=_link_or_copy)
        version = stage / str(settings.version)
        version.mkdir()
        (version / f"model{Path(settings.file).suffix}").write_bytes(model)
        for output, labels in head_labels(bundle.manifest).items():
            (stage / label_file(output)).write_text("".join(f"{printable(x)}\n" for x in labels), "utf-8")
        (stage / MARKER).write_bytes(msgspec.json.format(msgspec.json.encode(marker), indent=1) + b"\n")
        (stage / CONFIG).write_text(config, "utf-8")
    return tuple(sorted(kept))


def _versions(folder: Path) -> dict[int, Served]:
    """Return the versions in a model folder that are still there; none where it is empty or missing."""
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return {}
        versions = msgspec.json.decode((folder / MARKER).read_bytes(), type=Marker).versions
        return {number: one for number, one in versions.items() if (folder / str(number)).is_dir()}
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(
            f"{folder} was not written by this tsm-triton (no readable {MARKER} in it); choose another --name"
            " or --output, or delete it"
        ) from error


def _check_kept(folder: Path, number: int, other: Served, new: Served, settings: Settings) -> None:
    """Check that the new configuration, which describes all versions, holds for one that stays."""
    what = differences(other.manifest, new.manifest)
    if other.platform != new.platform:
        what.append("platform")
    if what:
        raise UsageError(
            f"{folder} has version {number} of another model ({' and '.join(what)} differ); choose another"
            " --name, or delete that version"
        )
    if other.largest_batch is not None and settings.max_batch > other.largest_batch:
        raise UsageError(
            f"--max-batch {settings.max_batch}: version {number} in {folder} takes up to"
            f" {other.largest_batch} clips; give that or less, or choose another --name"
        )


@contextmanager
def _staged(repository: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder that becomes the model `name` when the block ends well.

    It lies outside the repository, unlike that of `files.whole_folder`: Triton takes every folder in a
    repository for a model, hidden ones too, and does not start when one of them is not.
    """
    target = Path(os.path.realpath(repository))
    if target.exists() and not target.is_dir():
        raise UsageError(f"{repository} is not a folder; choose another --output")
    made = not target.exists()
    try:
        target.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".tsm-", suffix=".tmp", dir=_scratch_place(target), ignore_cleanup_errors=True
        ) as scratch:
            stage = Path(scratch) / "new"
            stage.mkdir()
            yield stage
            exchange_folder(stage, target / name, Path(scratch) / "old")
    except BaseException as error:
        if made:
            with suppress(OSError):
                target.rmdir()
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise RunError(f"cannot write {repository / name}: {reason}") from error
        raise


def _scratch_place(repository: Path) -> Path:
    """Return the parent of the repository; the repository itself if nothing can be moved in from there."""
    around = repository.parent
    movable = around.stat().st_dev == repository.stat().st_dev and os.access(around, os.W_OK)
    return around if movable else repository


def _link_or_copy(source: str, target: str) -> None:
    """Give a file that never changes a second name, or copy it where the file system cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
