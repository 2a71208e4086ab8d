"""Which models a command runs: one, or the members of an ensemble, with their weights and their fusion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tsm_runtime.backends.base import Backend
from tsm_runtime.bundle.bundle import MANIFEST, Bundle, load_bundle
from tsm_runtime.clips.builder import ClipSpec
from tsm_runtime.commands.fusion_flags import given_options, given_weights
from tsm_runtime.errors import BundleError, UsageError
from tsm_runtime.fusion.candidates import Denominator
from tsm_runtime.fusion.ensemble_file import Ensemble, EnsembleMember, read_ensemble
from tsm_runtime.fusion.fuse import Method
from tsm_runtime.fusion.member_labels import check_labels
from tsm_runtime.models.choice import BackendRequest, open_requested
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.options import Overrides
from tsm_runtime.segments.merging import BACKGROUND
from tsm_runtime.segments.smoothing import SegmentRules
from tsm_runtime.video.finding import find_bundle

__all__ = [
    "ModelRequest",
    "check_one_view",
    "choose_models",
    "closing_members",
    "load_bundles",
    "member_of",
    "open_member",
    "open_members",
    "settings_of",
]

OpenOne = Callable[[Bundle, BackendRequest | None, Overrides | None], Member]
"""As `open_member`."""

_FOR_SEVERAL = ("weights", "iou", "denominator", "method")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """Options of the command as given; None where not."""

    models: tuple[Path, ...] = ()
    ensemble: Path | None = None
    weights: str | None = None
    iou: float | None = None
    denominator: Denominator | None = None
    method: Method | None = None
    min_score: float | None = None


def choose_models(request: ModelRequest) -> tuple[Ensemble, str | None]:
    """Return the models as members of an ensemble, which may be one alone, before any is opened.

    Returns:
        The ensemble, and a line that says so where its only member is the embedded demo model.

    Raises:
        UsageError: options that do not go together, a wrong value, or a model given twice.
    """
    if request.ensemble is not None:
        return _of_file(request, request.ensemble), None
    if len(request.models) > 1:
        ensemble = _of_options(request, given_weights(request.weights, len(request.models)))
        _check_distinct(ensemble, "give it a higher weight (--weights)")
        return ensemble, None
    for name in _FOR_SEVERAL:
        if getattr(request, name) is not None:
            raise UsageError(f"--{name} is for several models: give --model twice or more, or leave it out")
    path, notice = find_bundle(request.models[0] if request.models else None)
    return _of_options(ModelRequest(models=(path,), min_score=request.min_score), (1.0,)), notice


def _of_options(request: ModelRequest, weights: Sequence[float]) -> Ensemble:
    options = given_options(
        method=request.method,
        iou=request.iou,
        denominator=request.denominator,
        min_score=request.min_score,
    )
    return Ensemble(
        method=options.method,
        iou=options.iou,
        denominator=options.denominator,
        min_score=options.min_score,
        members=tuple(
            EnsembleMember(bundle=str(path), weight=weight)
            for path, weight in zip(request.models, weights, strict=True)
        ),
    )


def _of_file(request: ModelRequest, path: Path) -> Ensemble:
    if request.models:
        raise UsageError(f"--model beside --ensemble: {path} names its bundles; change them there")
    for name in (*_FOR_SEVERAL, "min_score"):
        if getattr(request, name) is not None:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} beside --ensemble: {path} says it; change it there")
    ensemble = read_ensemble(path)
    for number, member in enumerate(ensemble.members, start=1):
        if not member.bundle:
            raise UsageError(
                f'{path}: member {number} ({member.segments}) names no bundle; write bundle = "FOLDER" there,'
                " or fuse files of segments with tsm-fuse"
            )
    if len(ensemble.members) < 2:
        raise UsageError(f"{path}: one member; fusion takes two or more: run a single model with --model")
    _check_distinct(ensemble, f"give it a higher weight in {path}")
    return ensemble


def _check_distinct(ensemble: Ensemble, remedy: str) -> None:
    seen = [(Path(member.bundle).resolve(), member.view) for member in ensemble.members]
    for number, member in enumerate(ensemble.members):
        if seen[number] in seen[:number]:
            raise UsageError(f"model {member.bundle} is given twice; to let it count for more, {remedy}")


def check_one_view(ensemble: Ensemble) -> None:
    """Check that all members can run on one video.

    Raises:
        UsageError: the ensemble's file says that they see several views, or that their videos do not begin
            together.
    """
    for name in ("view", "offset_seconds"):
        told = {getattr(member, name) or None for member in ensemble.members}
        if len(told) > 1:
            shown = ", ".join(sorted(str(value) for value in told - {None}))
            raise UsageError(
                f"the members differ in {name} ({shown}): give the videos of a capture with --capture or"
                " --view, not one video for all"
            )


# --- bundles --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Labels:
    """What a bundle may name, for `check_labels`."""

    path: Path
    labels: set[str]
    scene_labels: set[str]


def load_bundles(ensemble: Ensemble) -> list[Bundle]:
    """Read the manifest of every member.

    Raises:
        BundleError: one cannot be used, or is not the one that the ensemble's file means.
        UsageError: members name the same things differently.
    """
    bundles = [load_bundle(Path(member.bundle)) for member in ensemble.members]
    for bundle, member in zip(bundles, ensemble.members, strict=True):
        if member.bundle_sha256 and member.bundle_sha256.lower() != bundle.manifest_sha256:
            raise BundleError(
                f"{bundle.path / MANIFEST}: its SHA-256 {bundle.manifest_sha256} is not the one that the"
                f" ensemble's file tells, {member.bundle_sha256}\n"
                "put that bundle there, or fit the ensemble anew with this one"
            )
    if len(bundles) > 1:
        labels = [
            _Labels(b.path, {*b.manifest.action_labels} - {BACKGROUND}, {*b.manifest.scene_labels})
            for b in bundles
        ]
        check_labels(
            labels, remedy="run each model alone and map the labels of its file with tsm-fuse --labels TABLE"
        )
    return bundles


def open_member(
    bundle: Bundle, request: BackendRequest | None = None, overrides: Overrides | None = None
) -> Member:
    """Open a bundle's model on this machine.

    Raises:
        UsageError: the overrides do not fit this model.
    """
    settings_of(bundle, overrides)  # what does not fit is told before a model is loaded
    return member_of(bundle, open_requested(bundle, request or BackendRequest()), overrides)


def member_of(bundle: Bundle, backend: Backend, overrides: Overrides | None = None) -> Member:
    """Return a bundle's model that a backend runs.

    Raises:
        UsageError: as `open_member`.
    """
    spec, rules = settings_of(bundle, overrides)
    manifest = bundle.manifest
    return Member(
        backend=backend,
        spec=spec,
        action_labels=manifest.action_labels,
        scene_labels=manifest.scene_labels,
        rules=rules,
    )


def settings_of(bundle: Bundle, overrides: Overrides | None = None) -> tuple[ClipSpec, SegmentRules]:
    """Return what a bundle's model takes and how its scores become segments.

    Raises:
        UsageError: the overrides do not fit this model.
    """
    manifest = bundle.manifest
    try:
        return (overrides or Overrides()).apply(manifest.clip_spec, manifest.segment_rules)
    except UsageError as error:
        raise UsageError(f"{error} (model {bundle.path})") from error


def open_members(
    ensemble: Ensemble,
    bundles: Sequence[Bundle],
    request: BackendRequest | None = None,
    overrides: Overrides | None = None,
    open_one: OpenOne = open_member,
) -> list[Member]:
    """Open every model; a member is called by its folder's name, or its path where two names are equal.

    Whoever gets them closes them, see `closing_members`. If one does not open, those before it are closed.

    Raises:
        UsageError: the overrides, which are for all of them, do not fit one.
    """
    names = [bundle.path.resolve().name for bundle in bundles]
    members: list[Member] = []
    try:
        for bundle, member, name in zip(bundles, ensemble.members, names, strict=True):
            opened = open_one(bundle, request, overrides)
            named = name if names.count(name) == 1 else str(bundle.path)
            members.append(replace(opened, name=named, weight=member.weight, temperature=member.temperature))
    except BaseException:
        _close(members)
        raise
    return members


@contextmanager
def closing_members(members: Sequence[Member]) -> Iterator[Sequence[Member]]:
    """Close the backends of members at the end of the block, however it ends."""
    try:
        yield members
    finally:
        _close(members)


def _close(members: Sequence[Member]) -> None:
    with ExitStack() as held:  # closes all, also when one fails
        for member in members:
            held.callback(member.backend.close)
