r"""What sound adds: drawn videos in which some actions are only heard, some only seen, and some need both.

The picture features are those of the demo model, which knows the drawn actions. A linear sigmoid head on
them is the picture model; the sound branch joins them as `tsm-train` does with an `[audio]` section.
Thresholds are chosen on the validation videos, scores are of the test videos, for several seeds of head and
branch.

How to read it: mAP over tIoU 0.5, 0.75, 0.95 by group of classes, mean and standard deviation over the seeds,
in percent. `muted` is the model with sound on videos whose track is missing; it must equal `picture`.

    python -m tsm_train.synthetic drawn-sound --sounds --training 64 --validation 24 --test 24 --seed 1 \
        --size 144x144
    python benchmarks/sound.py drawn-sound
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from _common import measure, store
from torch import nn

from tsm_export.accuracy import OnnxBackend
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.bundle.manifest import sha256
from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.results import IntervalScores, Segment
from tsm_runtime.segments.rules import SegmentRules
from tsm_train.audio.intervals import Intervals, VideoIntervals, read_intervals
from tsm_train.audio.network import SoundProbabilities
from tsm_train.audio.run import JudgedBranch, train_sound
from tsm_train.config import Config, load_config
from tsm_train.data.video import TrainingVideo
from tsm_train.head.features import FeatureCache
from tsm_train.samples.clips import Labels
from tsm_train.sections.after_backbone import AudioConfig
from tsm_train.synthetic.sounds import HEARD, SILENT_CLAPS
from tsm_train.training.losses import action_loss
from tsm_train.training.thresholds import thresholds_of_scores
from tsm_train.training.validation import TIOU_THRESHOLDS

CONFIG = Path(__file__).parent / "configs" / "drawn.toml"
BOTH = ("clapping", SILENT_CLAPS)
_HEAD_STEPS = 1500


def main() -> None:
    """Read features and sound, train, score, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="drawn with --sounds")
    parser.add_argument("--cache", type=Path, help="folder of the features")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    audio = AudioConfig(epochs=options.epochs)
    config = _config(options.data, audio)
    labels, parts, per_clip = read_parts(config, audio, options.cache or options.data / "features")
    rows = [one_seed(config, audio, labels, parts, seed) for seed in options.seeds]
    figures = {
        variant: {group: _spread([row[variant][group] for row in rows]) for group in rows[0][variant]}
        for variant in rows[0]
    }
    cost = {"picture": per_clip, "branch": branch_cost(labels, parts, audio)}
    results = {"figures": figures, "rows": rows, "seconds_per_interval": cost, "epochs": options.epochs}
    store("sound", results)


def _config(data: Path, audio: AudioConfig) -> Config:
    folder = data.absolute()
    sets = [
        f'data.annotations="{folder / "ground_truth.json"}"',
        f'data.videos="{folder / "videos"}"',
        f'data.cache="{folder / "cache"}"',
        'model.head="sigmoid"',
    ]
    return msgspec.structs.replace(load_config(CONFIG, sets), audio=audio)


def read_parts(
    config: Config, audio: AudioConfig, cache_folder: Path
) -> tuple[Labels, dict[str, list[VideoIntervals]], float]:
    """Return labels, the intervals of each subset, and the seconds that the picture model takes for one."""
    demo = load_bundle(demo_folder() / "bundle")
    model = demo.model_bytes("model.fp32.onnx")
    backend = OnnxBackend(model, 1)
    demo_labels = Labels(demo.manifest.action_labels, demo.manifest.scene_labels)
    cache = FeatureCache(backend, sha256(model), demo_labels, config, cache_folder)
    drawn = drawn_videos(Path(config.data.annotations), Path(config.data.videos))
    parts, actions = {}, set()
    for subset in ("training", "validation", "test"):
        videos = [video for video in drawn if video.subset == subset]
        parts[subset] = read_intervals(videos, cache, audio.spec, config.clip.num_frames)
        actions |= {segment.label for video in videos for segment in video.segments}
        print(subset, len(parts[subset]), flush=True)
    clip = np.zeros((1, config.clip.num_frames, config.clip.size, config.clip.size, 3), np.uint8)
    return Labels(tuple(sorted(actions)), ()), parts, measure(lambda: backend.infer(clip), 20).wall_median


def drawn_videos(annotations: Path, videos: Path) -> list[TrainingVideo]:
    """Return the drawn videos and what is true of them."""
    database = json.loads(annotations.read_text())["database"]
    return [
        TrainingVideo(
            video_id=video_id,
            path=videos / f"{video_id}.mp4",
            capture=video_id,
            subset=entry["subset"],
            segments=tuple(
                Segment(label=each["label"], start_seconds=each["segment"][0], end_seconds=each["segment"][1])
                for each in entry["annotations"]
            ),
        )
        for video_id, entry in database.items()
    ]


def one_seed(
    config: Config, audio: AudioConfig, labels: Labels, parts: Mapping[str, list[VideoIntervals]], seed: int
) -> dict[str, dict[str, float]]:
    """Train a picture head and a branch, and return the figures of the test videos."""
    began = time.perf_counter()
    config = msgspec.structs.replace(config, train=msgspec.structs.replace(config.train, seed=seed))
    head = picture_head(Intervals.of(parts["training"], labels, 0.5), labels, seed)
    rules = SegmentRules(thresholds=picture_thresholds(head, labels, parts["validation"]))
    sound = train_sound(
        config, audio, labels, parts["training"], parts["validation"], (head, None), rules, "demo"
    )
    judge = JudgedBranch(sound.model(), labels, config, rules)
    found = {
        "both": groups(judge, parts["test"], muted=False),
        "muted": groups(judge, parts["test"], muted=True),
        "picture": groups(_without_branch(judge, head), parts["test"], muted=True),
    }
    print(seed, round(time.perf_counter() - began), found, flush=True)
    return found


def picture_head(intervals: Intervals, labels: Labels, seed: int) -> nn.Linear:
    """Train a linear head on the picture features."""
    torch.manual_seed(seed)
    rows = np.concatenate([each.features for each in intervals.videos])
    features, targets = torch.from_numpy(rows), intervals.actions
    mean, std = features.mean(0), features.std(0) + 0.05
    head = nn.Linear(features.shape[1], len(labels.actions))
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.003, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.003, total_steps=_HEAD_STEPS + 1)
    for _ in range(_HEAD_STEPS):
        picked = torch.randint(len(features), (64,))
        inputs = nn.functional.dropout((features[picked] - mean) / std, 0.5)
        loss = action_loss(head(inputs), targets[picked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():  # for features that are not normalised
        head.weight /= std
        head.bias -= head.weight @ mean
    return head


def picture_thresholds(
    head: nn.Linear, labels: Labels, validation: Sequence[VideoIntervals]
) -> tuple[float, ...]:
    """Choose the thresholds of the picture model."""
    with torch.inference_mode():
        scores = {
            each.video.video_id: IntervalScores(
                indices=each.indices, action=head(torch.from_numpy(each.features)).sigmoid().numpy()
            )
            for each in validation
        }
    return thresholds_of_scores([each.video for each in validation], scores, labels.actions, 0.5)


def _without_branch(judge: JudgedBranch, head: nn.Linear) -> JudgedBranch:
    """Return the picture model alone, as a branch that changes nothing."""
    with torch.no_grad():
        for parameter in judge.branch.joint.parameters():
            parameter.zero_()
        judge.branch.heard_bias.zero_()
        judge.branch.picture_head.weight.copy_(head.weight)
        judge.branch.picture_head.bias.copy_(head.bias)
    return judge


def groups(judge: JudgedBranch, test: Sequence[VideoIntervals], *, muted: bool) -> dict[str, float]:
    """Return mAP in percent, of all classes and by group."""
    truth = {each.video.video_id: each.video.segments for each in test}
    found = {each.video.video_id: judge.segments(each, muted=muted) for each in test}
    evaluation = evaluate(truth, found, TIOU_THRESHOLDS)
    per_class = {label: float(np.mean(values)) for label, values in evaluation.ap.items()}
    seen = [label for label in per_class if label not in (*HEARD, *BOTH)]
    chosen = {"all": list(per_class), "heard": HEARD, "need both": BOTH, "seen": seen}
    return {
        name: round(100 * statistics.mean(per_class[x] for x in labels), 2) for name, labels in chosen.items()
    }


def branch_cost(labels: Labels, parts: Mapping[str, list[VideoIntervals]], audio: AudioConfig) -> float:
    """Return the seconds that a branch takes for an interval, cutting of sound included, in batches of 16."""
    from tsm_train.audio.fit import _new

    some = Intervals.of(parts["validation"][:2], labels, 0.5)
    heads = (nn.Linear(some.videos[0].features.shape[1], len(labels.actions)), None)
    branch = _new(some, heads, labels, audio, np.random.default_rng(0)).eval()
    model, rows = SoundProbabilities(branch, sigmoid=True, has_scenes=False), np.arange(16)
    with torch.inference_mode():
        return measure(lambda: model(*some.inputs(rows)), 20).wall_median / 16


def _spread(values: Sequence[float]) -> list[float]:
    """Return mean and standard deviation."""
    return [round(statistics.mean(values), 2), round(statistics.stdev(values) if len(values) > 1 else 0.0, 2)]


if __name__ == "__main__":
    main()
