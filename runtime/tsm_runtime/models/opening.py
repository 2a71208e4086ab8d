"""Opening of the models of a command: one, or the members of an ensemble with weights and fusion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from tsm_runtime.backends.base import Backend
from tsm_runtime.backends.mirrored import MirroredBackend, mirrored_columns
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.manifest import MANIFEST
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import BundleError, UsageError
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.fusion.member_labels import MemberLabels, check_member_labels
from tsm_runtime.models.choice import BackendRequest, open_requested
from tsm_runtime.models.member import Member, Overrides
from tsm_runtime.models.sound_branch import SoundBranch
from tsm_runtime.models.temporal_head import TemporalHead
from tsm_runtime.models.view_join import ViewJoin
from tsm_runtime.results import BACKGROUND
from tsm_runtime.segments.decoding.settings import Decoding
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.video.panorama import windows_of

OpenOne = Callable[[Bundle, BackendRequest | None, Overrides | None], Member]
"""Same signature as `open_member`."""


# --- bundles --------------------------------------------------------------------------------------


def load_bundles(ensemble: Ensemble) -> list[Bundle]:
    """Read the manifest of every member.

    Raises:
        BundleError: a bundle cannot be used, or its hash differs from the ensemble file.
        UsageError: members name the same labels differently.
    """
    bundles = [load_bundle(Path(member.bundle)) for member in ensemble.members]
    for bundle, member in zip(bundles, ensemble.members, strict=True):
        if member.bundle_sha256 and member.bundle_sha256.lower() != bundle.manifest_sha256:
            raise BundleError(
                f"{bundle.path / MANIFEST}: its SHA-256 {bundle.manifest_sha256} is not the one that the"
                f" ensemble's file states, {member.bundle_sha256}\n"
                "put that bundle there, or fit the ensemble again with this one"
            )
    if len(bundles) > 1:
        labels = [
            MemberLabels(b.path, {*b.manifest.action_labels} - {BACKGROUND}, {*b.manifest.scene_labels})
            for b in bundles
        ]
        check_member_labels(
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
    settings_of(bundle, overrides)  # reports invalid overrides before the model is loaded
    _columns_if_flipped(bundle, overrides)
    return member_of(bundle, open_requested(bundle, request or BackendRequest()), overrides)


def member_of(bundle: Bundle, backend: Backend, overrides: Overrides | None = None) -> Member:
    """Return the member for a bundle's model on a backend.

    Raises:
        UsageError: see `open_member`.
    """
    spec, rules = settings_of(bundle, overrides)
    manifest = bundle.manifest
    columns = _columns_if_flipped(bundle, overrides)
    return Member(
        backend=backend if columns is None else MirroredBackend(backend, columns),
        spec=spec,
        action_labels=manifest.action_labels,
        scene_labels=manifest.scene_labels,
        rules=rules,
        head=None if manifest.temporal_head is None else TemporalHead(bundle),
        sound=None if manifest.sound is None else SoundBranch(bundle),
        decoding=decoding_of(bundle, overrides),
        joint=None if manifest.views is None else ViewJoin(bundle),
        windows=windows_of(manifest.projection),
    )


def _columns_if_flipped(bundle: Bundle, overrides: Overrides | None) -> list[int] | None:
    """Return the action that the mirror image of each action shows; None: clips are not mirrored.

    Raises:
        UsageError: a mirror image has no meaning for this model.
    """
    if overrides is None or not overrides.flip:
        return None
    manifest = bundle.manifest
    if manifest.sound_input is not None:
        raise UsageError(f"--flip: sound has no mirror image; leave it out (model {bundle.path})")
    if manifest.flip_pairs and decoding_of(bundle, overrides) is not None and manifest.temporal_head:
        first, second = manifest.flip_pairs[0]
        raise UsageError(
            f"--flip: a mirror image exchanges {first!r} and {second!r}, which the temporal head cannot undo;"
            f" add --decoding clips (model {bundle.path})"
        )
    try:
        return mirrored_columns(manifest.action_labels, manifest.flip_pairs, manifest.never_flip)
    except UsageError as error:
        raise UsageError(f"{error} (model {bundle.path})") from error


def settings_of(bundle: Bundle, overrides: Overrides | None = None) -> tuple[ClipSpec, SegmentRules]:
    """Return the clip specification and the segment rules of a bundle's model.

    Raises:
        UsageError: the overrides do not fit this model.
    """
    manifest = bundle.manifest
    try:
        spec, rules = (overrides or Overrides()).apply(manifest.clip_spec, manifest.segment_rules)
    except UsageError as error:
        raise UsageError(f"{error} (model {bundle.path})") from error
    if spec.num_open > 1 and decoding_of(bundle, overrides) is not None:
        option = "--window" if spec.num_overlapping == 1 else "--stride"
        raise UsageError(
            f"{option}: the segments of this model are made of the scores of frames, which clips that overlap"
            f" would give several of; leave it out (model {bundle.path})"
        )
    return spec, rules


_SWITCH_COST = 4.0
"""Of `--decoding viterbi` for a bundle that was not fitted with it, in nats."""


def decoding_of(bundle: Bundle, overrides: Overrides | None = None) -> Decoding | None:
    """Return how the scores of frames become segments; None: segments are made of the scores of clips.

    Raises:
        UsageError: the overrides name a method for which the bundle lacks something.
    """
    manifest, overrides = bundle.manifest, overrides or Overrides()
    method, decoding = overrides.decoding, manifest.decoding
    if method == "clips":
        return None
    if method is not None:
        lacking = {
            "scores of frames; export it again with --frame-scores": not manifest.feature_dim,
            "temporal head, whose distances proposals are made of": method == "proposals"
            and manifest.temporal_head is None,
            "lengths of actions; train a head, which learns them": method == "durations"
            and (decoding is None or not decoding.lengths),
        }
        for what, is_lacking in lacking.items():
            if is_lacking:
                raise UsageError(f"--decoding {method}: the model has no {what} (model {bundle.path})")
        decoding = replace(decoding or Decoding(), method=method)
        if method == "viterbi" and not decoding.switch_cost:
            decoding = replace(decoding, switch_cost=_SWITCH_COST)
    if decoding is not None and overrides.smoothing_seconds is not None:
        decoding = replace(decoding, smoothing_seconds=overrides.smoothing_seconds)
    return decoding


def open_members(
    ensemble: Ensemble,
    bundles: Sequence[Bundle],
    request: BackendRequest | None = None,
    overrides: Overrides | None = None,
    open_one: OpenOne = open_member,
) -> list[Member]:
    """Open every model; a member is called by its folder's name, or its path where two names are equal.

    The caller closes the members, see `closing_members`. If a member fails to open, the others are closed.

    Raises:
        UsageError: the overrides do not fit one of the models.
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
    """Close the backends of members at the end of the block, also after an error."""
    try:
        yield members
    finally:
        _close(members)


def _close(members: Sequence[Member]) -> None:
    with ExitStack() as held:  # closes all, also when one fails
        for member in members:
            held.callback(member.backend.close)
