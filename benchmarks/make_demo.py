"""Make the embedded demo anew: draw, train, export, draw the demo video. `make demo-model` calls this.

Everything comes from seeds. The demo video has a seed of its own, far from those of the training videos, and
was not chosen among several. A training that is already in runs/drawn is taken as it is.

    python benchmarks/make_demo.py
"""

from __future__ import annotations

import json
from pathlib import Path

from tsm_export.export import export_bundle
from tsm_export.request import ExportRequest
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.commands.demo import run_demo
from tsm_train.config import load_config
from tsm_train.synthetic.dataset import draw_dataset
from tsm_train.synthetic.video import VideoTruth, draw_video
from tsm_train.training.train import train

ROOT = Path(__file__).parents[1]
DATA_SEED = 1
VIDEO_SEED = 20_000
VIDEO_SECONDS = 30.0
SIZE = 144
"""Width and height of all videos, in pixels."""


def main() -> None:
    """Write runtime/tsm_runtime/demo/ and show what `tsm-run --demo` then prints."""
    config = load_config(ROOT / "benchmarks" / "configs" / "drawn.toml")
    if not (ROOT / "drawn" / "ground_truth.json").exists():
        draw_dataset(ROOT / "drawn", seed=DATA_SEED, training=176, validation=24, width=SIZE, height=SIZE)
    run = ROOT / "runs" / config.name
    if not (run / "best.safetensors").exists():
        train(config, run)
    folder = demo_folder()
    export_bundle(run / "last.safetensors", folder / "bundle", ExportRequest(half_weights=True))
    truth = draw_video(folder / "video.mp4", seed=VIDEO_SEED, seconds=VIDEO_SECONDS, width=SIZE, height=SIZE)
    (folder / "ground_truth.json").write_text(json.dumps(describe(truth), indent=1) + "\n")
    run_demo()


def describe(truth: VideoTruth) -> dict[str, object]:
    """Return the demo video's truth in ActivityNet form."""
    annotations = [{"label": s.label, "segment": [s.start_seconds, s.end_seconds]} for s in truth.segments]
    video = {
        "subset": "validation",
        "duration": truth.duration_seconds,
        "scene": truth.scene,
        "annotations": annotations,
    }
    return {"version": "drawn by tsm_train.synthetic", "database": {"drawn figure": video}}


if __name__ == "__main__":
    main()
