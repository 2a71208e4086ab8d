r"""What a model of sound alone finds: drawn videos in which some actions are only heard, some only seen.

The model is trained by `tsm-train` (`model.backbone = "audio"`) and runs through the runtime; thresholds are
chosen on the validation videos, scores are of the test videos. Models that also see: `benchmarks/sound.py`.

How to read it: mAP over tIoU 0.5, 0.75, 0.95 by group of classes, mean and standard deviation over the seeds,
in percent; processor seconds for an hour of recording, decoding included.

    python -m tsm_train.synthetic drawn-sound --sounds --training 64 --validation 24 --test 24 --seed 1 \
        --size 144x144
    python benchmarks/sound_alone.py drawn-sound
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from _common import store
from sound import BOTH, drawn_videos

from tsm_runtime.evaluation.protocol import evaluate
from tsm_train.config import Config, config_of
from tsm_train.data.video import TrainingVideo
from tsm_train.synthetic.sounds import HEARD
from tsm_train.training.checkpoint import load_checkpoint
from tsm_train.training.train import train
from tsm_train.training.validation import TIOU_THRESHOLDS, predict


def main() -> None:
    """Train, run, score, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="drawn with --sounds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(one_seed(config_for(options.data.absolute(), options.epochs, seed), Path(folder)))
        print(seed, rows[-1], flush=True)
    figures = {name: _spread([row[name] for row in rows]) for name in rows[0]}
    store("sound_alone", {"figures": figures, "rows": rows, "epochs": options.epochs})


def config_for(data: Path, epochs: int, seed: int) -> Config:
    """Return the run."""
    raw = {
        "name": "sound-alone",
        "data": {
            "annotations": str(data / "ground_truth.json"),
            "videos": str(data / "videos"),
            "cache": str(data / "cache"),
        },
        "model": {"backbone": "audio", "head": "sigmoid", "scene_head": False, "dropout": 0.3},
        "clip": {"interval_seconds": 0.5, "num_frames": 2},
        "audio": {},
        "train": {
            "epochs": epochs,
            "batch_size": 32,
            "learning_rate": 0.05,
            "seed": seed,
            "validate_every": epochs,
        },
    }
    return config_of(raw, "benchmark", data)


def one_seed(config: Config, folder: Path) -> dict[str, float]:
    """Train a model, and return the figures of the test videos."""
    train(config, folder, device="cpu", show_progress=False)
    checkpoint = load_checkpoint(folder / "best.safetensors")
    model, labels = checkpoint.model(), checkpoint.labels
    drawn = drawn_videos(Path(config.data.annotations), Path(config.data.videos))
    test = [video for video in drawn if video.subset == "test"]
    began = time.process_time()
    found = {
        video.video_id: predict(
            model, video.path, video.video_id, labels, config.clip_spec, checkpoint.segment_rules
        )
        for video in test
    }
    hours = sum(result.duration_seconds for result in found.values()) / 3600
    seconds = round((time.process_time() - began) / hours, 1)
    return {
        **groups(test, {key: result.segments for key, result in found.items()}),
        "seconds_per_hour": seconds,
    }


def groups(test: Sequence[TrainingVideo], found: dict[str, Sequence[object]]) -> dict[str, float]:
    """Return mAP in percent, of all classes and by group."""
    truth = {video.video_id: video.segments for video in test}
    evaluation = evaluate(truth, found, TIOU_THRESHOLDS)  # type: ignore[arg-type]
    per_class = {label: float(np.mean(values)) for label, values in evaluation.ap.items()}
    seen = [label for label in per_class if label not in (*HEARD, *BOTH)]
    chosen = {"all": list(per_class), "heard": HEARD, "need both": BOTH, "seen": seen}
    return {
        name: round(100 * float(np.mean([per_class[label] for label in labels if label in per_class])), 2)
        for name, labels in chosen.items()
    }


def _spread(values: Sequence[float]) -> list[float]:
    """Return mean and standard deviation."""
    return [round(statistics.mean(values), 2), round(statistics.stdev(values) if len(values) > 1 else 0.0, 2)]


if __name__ == "__main__":
    main()
