"""The bundle: a folder with a manifest and the models it names. Written by the export, read here."""

from __future__ import annotations

import difflib
import os
import re
import stat
from pathlib import Path

import msgspec

from tsm_runtime.bundle.manifest import (
    _KNOWN_KEYS,
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    encode_manifest,
    sha256,
)
from tsm_runtime.bundle.no_bundle import explain_no_bundle, is_run
from tsm_runtime.bundle.remote import fetch_bundle, is_address
from tsm_runtime.errors import BundleError
from tsm_runtime.results import BACKGROUND
from tsm_runtime.video.convert import RESIZE_FLAG
from tsm_runtime.wording import counted

CLIP_MODEL = "model.fp32.onnx"
GPU_MODEL = "model.fp32-gpu.onnx"
"""The same network in the form of GPUs, where that differs from the CPU's: fewer and larger tensors."""
"""The model that every bundle has, and that other files are compared with or trained on."""

_MOST_MANIFEST_BYTES = 16 * 2**20
"""The largest that the export writes has 34 labels and takes 20 KiB; verifications add a few KiB each."""

_MOST_MODEL_BYTES = 4 * 2**30
"""An ONNX file has 2 GiB at most; the plans of the largest published member take 0.4 GiB."""


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle on disk whose manifest was read and checked; model files are checked when opened."""

    path: Path
    manifest: Manifest
    manifest_sha256: str
    """SHA-256 of the manifest without verifications and plans: verifying a bundle, or building its plans for
    another machine, does not change its identity."""

    def model_bytes(self, name: str) -> bytes:
        """Return the bytes of a model file such as `model.fp16.onnx`, checked against the manifest's SHA-256.

        Raises:
            BundleError: there is no such model, its file is missing, or its hash differs.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            has = ", ".join(sorted(self.manifest.files)) or "no model"
            raise BundleError(f"{self.path}: has no {name} (it has {has}); export it with tsm-export")
        try:
            data = _read_inside(self.path, name, _MOST_MODEL_BYTES)
        except OSError as error:
            raise BundleError(
                f"{self.path / name}: named in the manifest but not readable ({error.strerror})"
            ) from error
        if sha256(data) != entry.sha256.lower():
            raise BundleError(
                f"{self.path / name}: SHA-256 differs from the manifest: the file was altered or copied in"
                " part; export the bundle again or copy it again"
            )
        return data


def load_bundle(path: Path) -> Bundle:
    """Read and check the manifest of a bundle.

    Args:
        path: the folder, or an address as `remote.fetch_bundle` takes it.

    Raises:
        BundleError: no such folder, no manifest, unknown or missing key, newer format, values that do not
            fit, an address that cannot be fetched.
    """
    if is_address(path):
        path = fetch_bundle(path)
    if not path.is_dir() or is_run(path):
        raise BundleError(f"{path}: {explain_no_bundle(path)}")
    try:
        data = _read_inside(path, MANIFEST, _MOST_MANIFEST_BYTES)
    except OSError as error:
        raise BundleError(
            f"{path}: no readable {MANIFEST} in it ({error.strerror}); is this a bundle from tsm-export?"
        ) from error
    manifest = _decode(data, path / MANIFEST)
    _check(manifest, path / MANIFEST)
    return Bundle(path=path, manifest=manifest, manifest_sha256=_identity(manifest))


def _read_inside(folder: Path, name: str, most_bytes: int) -> bytes:
    """Return the bytes of a file of a bundle.

    Raises:
        BundleError: it is no regular file, a link that leads out of the bundle, or too large.
        OSError: it cannot be read.
    """
    path = folder / name
    # Without waiting: opening a named pipe would wait for its writer.
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(number, "rb") as file:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode) or not path.resolve().is_relative_to(folder.resolve()):
            raise BundleError(
                f"{path}: leads out of the bundle or is no regular file; copy the file itself there"
            )
        if status.st_size > most_bytes:
            raise BundleError(f"{path}: {status.st_size} bytes; expected at most {most_bytes}")
        return file.read(most_bytes)


def _identity(manifest: Manifest) -> str:
    models = {name: file for name, file in manifest.files.items() if file.engine is None}
    return sha256(encode_manifest(msgspec.structs.replace(manifest, files=models, verifications=())))


def _decode(data: bytes, path: Path) -> Manifest:
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not JSON ({error})") from error
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleError(
            f"{path}: format {version} is newer than this program's {FORMAT_VERSION}; update tsm-tal"
        )
    try:
        return msgspec.convert(raw, Manifest)
    except OverflowError as error:  # of msgspec: a number beyond 64 bits
        raise BundleError(f"{path}: {error}") from error
    except msgspec.ValidationError as error:
        raise BundleError(f"{path}: {error}{_nearest_key(str(error))}") from error


def _nearest_key(message: str) -> str:
    """Return a hint that names the known key nearest to an unknown one."""
    unknown = re.search(r"unknown field `([^`]*)`", message)
    near = difflib.get_close_matches(unknown.group(1), _KNOWN_KEYS, n=1) if unknown else []
    return f"; the nearest known key is {near[0]!r}" if near else ""


def _check(manifest: Manifest, path: Path) -> None:
    if manifest.format_version < 1:
        raise BundleError(f"{path}: format_version {manifest.format_version}; expected 1 to {FORMAT_VERSION}")
    if manifest.resize != RESIZE_FLAG:
        raise BundleError(f"{path}: resize {manifest.resize!r}, but this program resizes by {RESIZE_FLAG!r}")
    _check_head(manifest, path)
    for name in ("action_labels", "scene_labels"):
        labels: tuple[str, ...] = getattr(manifest, name)
        if len(set(labels)) != len(labels):
            raise BundleError(f"{path}: {name} names a label twice")
        if not all(label.strip() for label in labels):
            raise BundleError(f"{path}: {name} holds an empty label")
    for name in manifest.files:
        if Path(name).name != name or name == "..":
            raise BundleError(f"{path}: file name {name!r} leads out of the bundle")
    _check_temporal_head(manifest, path)
    _check_sound_input(manifest, path)
    _check_sound(manifest, path)
    _check_views(manifest, path)
    try:
        _ = manifest.clip_spec, manifest.segment_rules
    except (ValueError, OverflowError) as error:
        raise BundleError(f"{path}: {error}") from error


def _check_head(manifest: Manifest, path: Path) -> None:
    labels, num_thresholds = manifest.action_labels, len(manifest.thresholds)
    if manifest.head == "softmax":
        if len(labels) < 2 or labels[-1] != BACKGROUND:
            raise BundleError(f"{path}: action_labels must be at least one action and then {BACKGROUND!r}")
        if num_thresholds:
            raise BundleError(f"{path}: thresholds are for a sigmoid head, and this head is a softmax")
        return
    if not labels or BACKGROUND in labels:
        raise BundleError(
            f"{path}: action_labels of a sigmoid head must be at least one action, and none {BACKGROUND!r}"
        )
    if num_thresholds != len(labels):
        raise BundleError(f"{path}: {counted(num_thresholds, 'threshold')} for {len(labels)} action_labels")


def _require_backbone(manifest: Manifest, path: Path, what: str, sha256: str) -> None:
    """Check that what was trained on features of a backbone lies beside that backbone."""
    backbone = manifest.files.get(CLIP_MODEL)
    if backbone is None or backbone.sha256.lower() != sha256.lower():
        raise BundleError(
            f"{path}: the {what} was trained on the features of another backbone (SHA-256 {sha256[:12]}) than"
            f" {CLIP_MODEL}; export both from one run"
        )


def _check_views(manifest: Manifest, path: Path) -> None:
    if manifest.views is None:
        return
    if not manifest.feature_dim or manifest.decoding is not None or manifest.sound is not None:
        raise BundleError(
            f"{path}: a joint model of views needs models with features of frames, and neither a decoding nor"
            " a sound branch; export the bundle again"
        )
    _require_backbone(manifest, path, "joint model of views", manifest.views.backbone_sha256)


def _check_sound_input(manifest: Manifest, path: Path) -> None:
    if manifest.sound_input is None:
        return
    others = (manifest.sound, manifest.views, manifest.projection or None, manifest.crop or None)
    if manifest.size or any(other is not None for other in others):
        raise BundleError(
            f"{path}: models of sound alone, but also a picture size, a sound branch, views or a crop;"
            " export the bundle again"
        )


def _check_sound(manifest: Manifest, path: Path) -> None:
    if manifest.sound is None:
        return
    hears = manifest.temporal_head is not None and manifest.temporal_head.with_sound
    if not manifest.feature_dim or (manifest.decoding is not None and not hears):
        raise BundleError(
            f"{path}: a sound branch needs models with features of frames, and segments made of clips or a"
            " temporal head with sound; export the bundle again"
        )
    _require_backbone(manifest, path, "sound branch", manifest.sound.backbone_sha256)


def _check_temporal_head(manifest: Manifest, path: Path) -> None:
    if manifest.decoding is not None and not manifest.feature_dim:
        raise BundleError(
            f"{path}: a decoding of the scores of frames, but models without them; export the bundle again"
        )
    head = manifest.temporal_head
    if head is None:
        return
    if manifest.decoding is None:
        raise BundleError(f"{path}: a temporal head, but no decoding of its scores; export the bundle again")
    if not manifest.feature_dim:
        raise BundleError(
            f"{path}: a temporal head, but models without features of frames; export the bundle again"
        )
    _require_backbone(manifest, path, "temporal head", head.backbone_sha256)
    if head.with_sound and (manifest.sound is None or not manifest.sound.embedding_dim):
        raise BundleError(f"{path}: a temporal head with sound, but no embedding of any; export it again")
    if not any(file.kind == "head" for file in manifest.files.values()):
        raise BundleError(f"{path}: a temporal head, but no file of one; export the bundle again")
    if manifest.window_seconds > manifest.interval_seconds:
        raise BundleError(f"{path}: a temporal head needs clips whose windows do not overlap")
