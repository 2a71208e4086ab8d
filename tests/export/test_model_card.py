"""The card says what the manifest says."""

from __future__ import annotations

import msgspec

from tsm_export.model_card import model_card
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.finding import demo_folder


def test_the_card_of_the_demo() -> None:
    manifest = load_bundle(demo_folder() / "bundle").manifest
    card = model_card(manifest)
    for label in (*manifest.action_labels[:-1], *manifest.scene_labels, *manifest.files):
        assert label in card
    assert "background" not in card.split("Actions (8)")[1].split("\n")[0]
    assert f"| validation map_0.5 | {manifest.checkpoint['validation_map_0.5']:.3f} |" in card


def test_a_model_without_validation_or_scenes() -> None:
    manifest = load_bundle(demo_folder() / "bundle").manifest
    bare = msgspec.structs.replace(manifest, checkpoint={"name": "bare"}, scene_labels=())
    card = model_card(bare)
    assert card.startswith("# bare\n")
    assert "No validation was run" in card
    assert "No scenes." in card
