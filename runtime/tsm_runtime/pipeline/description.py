"""Provenance of results, for `external_data` of their files: models, options and versions."""

from __future__ import annotations

from collections.abc import Sequence

import av
import msgspec
import numpy as np

from tsm_runtime._version import __version__
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.fusion.options import describe_fusion
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.options import Options


def describe_run(bundles: Sequence[Bundle], members: Sequence[Member], options: Options) -> dict[str, object]:
    """Return models, options and versions as JSON values.

    For one model the keys are "model", "options" and "versions"; for an ensemble "members" holds model,
    options, weight and temperature of each, beside "fusion" and "versions".
    """
    described = [
        {"model": _describe_model(bundle, member), "options": _describe_options(member, options)}
        for bundle, member in zip(bundles, members, strict=True)
    ]
    versions = {"tsm-tal": __version__, "av": av.__version__, "numpy": np.__version__}
    if len(described) == 1:
        return {**described[0], "versions": versions}
    return {
        "fusion": describe_fusion(options.fusion),
        "members": [
            {"weight": member.weight, "temperature": member.temperature, **each}
            for member, each in zip(members, described, strict=True)
        ],
        "versions": versions,
    }


def _describe_model(bundle: Bundle, member: Member) -> dict[str, object]:
    return {
        "bundle_sha256": bundle.manifest_sha256,
        "backbone": bundle.manifest.backbone,
        "backend": member.backend.name,
        "interval_seconds": bundle.manifest.interval_seconds,
        "num_frames": bundle.manifest.num_frames,
        **_describe_picture(bundle),
        **({"view": view} if (view := member.view or bundle.manifest.view) else {}),
    }


def _describe_picture(bundle: Bundle) -> dict[str, object]:
    sound = bundle.manifest.sound_input
    return {"size": bundle.manifest.size} if sound is None else {"sound": msgspec.to_builtins(sound)}


def _describe_options(member: Member, options: Options) -> dict[str, object]:
    """Return the options of the run, and the enabled options of the member."""
    spec, rules = member.spec, member.rules
    on = {
        "window": spec.window_seconds if spec.margin_seconds else 0,
        "stride": spec.stride_seconds if spec.num_overlapping > 1 else 0,
        "smoothing": rules.smoothing_seconds,
        "min_duration": rules.min_duration_seconds,
        "thresholds": rules.thresholds,
    }
    general = {"start": options.start_seconds, "end": options.end_seconds, "min_score": options.min_score}
    return {**general, **{name: value for name, value in on.items() if value}}
