"""Make the embedded demo anew: draw, train, export, draw the demo video. `make demo-model` calls this.

Everything comes from seeds. The demo video has a seed of its own, far from those of the training videos, and
was not chosen among several. A training that is already in runs/drawn is taken as it is.

    python benchmarks/make_demo.py             # backbone and temporal head, hours on two cores
    python benchmarks/make_demo.py --frozen    # the embedded backbone stays; its head is trained anew

With --frozen the head learns from the first 56 training videos, and the 24 validation videos choose the
decoding. The features are computed once and stay in the cache.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from _frozen_head import train_on_bundle, write_with_head

from tsm_export.export import export_bundle
from tsm_export.request import ExportRequest
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.commands.demo import run_demo
from tsm_train.config import Config, load_config
from tsm_train.data.dataset import open_data
from tsm_train.synthetic.dataset import draw_dataset
from tsm_train.synthetic.video import VideoTruth, draw_video
from tsm_train.training.train import train

ROOT = Path(__file__).parents[1]
DATA_SEED = 1
VIDEO_SEED = 20_000
VIDEO_SECONDS = 30.0
SIZE = 144
"""Width and height of all videos, in pixels."""
HEAD = ("head.passes=4", "head.epochs=40")
HEAD_VIDEOS = 56
REQUEST = ExportRequest(precisions=("fp32",), half_weights=True, targets=("onnx",))


def main() -> None:
    """Write runtime/tsm_runtime/demo/ and show what `tsm-run --demo` then prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frozen", action="store_true", help="train the head of the embedded backbone alone")
    parser.add_argument("--data", type=Path, default=ROOT / "drawn", help="drawn videos, made if missing")
    options = parser.parse_args()
    sources = {"annotations": options.data / "ground_truth.json", "videos": options.data / "videos"}
    places = [f"data.{key}={json.dumps(str(path.resolve()))}" for key, path in sources.items()]
    config = load_config(ROOT / "benchmarks" / "configs" / "drawn.toml", [*places, *HEAD])
    if not sources["annotations"].exists():
        draw_dataset(options.data, seed=DATA_SEED, training=176, validation=24, width=SIZE, height=SIZE)
    folder = demo_folder()
    if options.frozen:
        train_frozen(config, folder / "bundle")
    else:
        train_all(config, folder / "bundle")
    truth = draw_video(folder / "video.mp4", seed=VIDEO_SEED, seconds=VIDEO_SECONDS, width=SIZE, height=SIZE)
    (folder / "ground_truth.json").write_text(json.dumps(describe(truth), indent=1) + "\n")
    run_demo()


def train_all(config: Config, bundle: Path) -> None:
    """Train backbone and head, unless they are trained already, and export both."""
    run = ROOT / "runs" / config.name
    if not (run / "head.safetensors").exists():
        train(config, run, resume=(run / "last.safetensors").exists())
    export_bundle(run / "best.safetensors", bundle, REQUEST)


def train_frozen(config: Config, bundle: Path) -> None:
    """Train the head of the embedded backbone, and write the bundle anew."""
    old = load_bundle(bundle)
    data = open_data(config.data, config.clip.interval_seconds)
    head = train_on_bundle(old, config, data.training[:HEAD_VIDEOS], data.validation)
    write_with_head(old, head, bundle, REQUEST)
    print({name: round(value, 3) for name, value in head.metrics.items()})


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
