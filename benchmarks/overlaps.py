r"""What helps where actions are very short or several happen at once, on drawn videos with two figures.

Trains the members of a configuration (softmax and sigmoid head, two interval lengths), then makes segments
in several ways: plain, with overlapping intervals, smoothing, a shortest duration, and all together. Settings
and the thresholds of a sigmoid head are chosen on the validation videos, scores are of the test videos.
Members that are in --runs already are not trained again, and one that was broken off goes on.

How to read it: `map` is over tIoU 0.5, 0.75, 0.95. `found` is the share of the instances that are found at
tIoU 0.5 (at a normalised precision above 0.05), by length and by how much of an instance other actions cover.
Rows named `perfect` have no network: each interval gets the very labels that training would give it. They
show how far t, the head and the merge can reach; the distance to them is the network's.

    make demo-model    # 40 minutes of one core: the members go on from it
    python -m tsm_train.synthetic overlaps --figures 2 --short 0.4 --seconds 20 --size 144x144 --seed 3 \
        --training 110 --validation 30 --test 60
    python benchmarks/overlaps.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _common import store
from _overlap_rows import Grid, Head, Source, percent, perfect_scores, rows_of, specs_of, traits_of

from tsm_runtime.bundle.manifest import sha256
from tsm_runtime.clips.spec import ClipSpec, count_intervals
from tsm_runtime.errors import UsageError
from tsm_runtime.models.member import Member as RuntimeMember
from tsm_train.ablation.config import load_ablation
from tsm_train.ablation.members import Member, check_members, members_of, train_member
from tsm_train.ablation.stored_scores import score_videos
from tsm_train.ablation.videos import Footage, open_footage, truth_of
from tsm_train.samples.clips import Labels, covering_labels
from tsm_train.sections.network import ModelConfig
from tsm_train.training.validation import TorchBackend

CONFIG = Path(__file__).parent / "configs" / "ablation_overlaps.toml"
STRIDES = (1, 2, 4)
SMOOTHING = (0.0, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2)
MIN_DURATION = (0.0, 0.2, 0.3, 0.4, 0.6, 0.8)


def main() -> None:
    """Train what is missing, score, choose, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=CONFIG, help="an ablation's TOML file")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="gets a folder for the ablation")
    parser.add_argument("--only", nargs="+", help="names of members to train and report")
    parser.add_argument("--smoothing", type=float, nargs="+", default=SMOOTHING, help="seconds")
    parser.add_argument("--min-duration", type=float, nargs="+", default=MIN_DURATION, help="seconds")
    parser.add_argument("--strides", type=int, nargs="+", default=STRIDES, help="parts of the interval")
    parser.add_argument("--name", default="overlaps", help="results/NAME.json")
    options = parser.parse_args()

    ablation = load_ablation(options.config)
    for name in options.only or ():
        ablation.check_member(name, "--only")
    footage, folder = open_footage(ablation), options.runs / ablation.name
    if not footage.is_held_out:
        raise UsageError(f"{options.config}: the annotations have no test videos; draw them with --test")
    members = [m for m in members_of(ablation, folder) if not options.only or m.name in options.only]
    check_members(members, footage.finest)
    for member in members:
        print("trained already:" if member.is_finished else "training", member.name, flush=True)
        train_member(member, device="cpu")
    sources = [network(member, footage, options.strides, folder / "scores") for member in members]
    kinds = dict.fromkeys((m.config.model.head, m.config.clip.interval_seconds) for m in members)
    sources += [perfect(head, t, footage, options.strides) for head, t in kinds]

    validation, test = (footage.videos(subset) for subset in footage.subsets)
    grid = Grid(options.strides, options.smoothing, options.min_duration)
    rows = [row for source in sources for row in rows_of(source, validation, test, grid)]
    lines = [row.described(truth_of(test), rows[0]) for row in rows]
    print(as_markdown(lines))
    store(
        options.name,
        {
            "config": options.config.name,
            "data": described(footage),
            "training_minutes": {member.name: round(member.seconds / 60, 1) for member in members},
            "rows": lines,
        },
    )


def network(member: Member, footage: Footage, strides: Sequence[int], folder: Path) -> Source:
    """Score the videos with a trained member; what `folder` holds already is read from there."""
    checkpoint = member.checkpoint()
    labels, specs = checkpoint.labels, specs_of(checkpoint.config.clip_spec, strides)
    runner = RuntimeMember(
        backend=TorchBackend(checkpoint.model(), sigmoid=labels.head == "sigmoid"),
        spec=specs[0],
        action_labels=labels.actions,
        scene_labels=labels.scenes,
        rules=checkpoint.segment_rules,
    )
    kept = folder / sha256((member.folder / "best.safetensors").read_bytes())[:16]
    print("scoring", member.name, flush=True)
    validation, test = (
        score_videos(runner, {v.video_id: v.path for v in footage.videos(subset)}, specs, store=kept)
        for subset in footage.subsets
    )
    return Source(member.name, labels.actions, specs, validation, test)


def perfect(head: Head, interval_seconds: float, footage: Footage, strides: Sequence[int]) -> Source:
    """Return what a faultless network of this kind would say."""
    labels = Labels.of(footage.finest.actions, (), ModelConfig(head=head)).actions
    specs = specs_of(ClipSpec(interval_seconds=interval_seconds), strides)
    validation, test = (perfect_scores(footage.videos(subset), labels, specs) for subset in footage.subsets)
    return Source(f"perfect {head}, t = {interval_seconds:g} s", labels, specs, validation, test)


def described(footage: Footage) -> dict[str, Any]:
    """Return the size of each subset, and how many intervals hold two actions or more, by t."""
    sizes = {}
    for subset in (footage.finest.config.training_subset, *footage.subsets):
        videos = footage.videos(subset)
        traits = traits_of(truth_of(videos))
        counts = {trait.name: list(trait.values.values()) for trait in traits}
        sizes[subset] = {
            "videos": len(videos),
            "seconds": round(sum(video.duration_seconds or 0.0 for video in videos), 2),
            "instances": {
                name: {value: found.count(value) for value in sorted(set(map(str, found)))}
                for name, found in counts.items()
            },
            "intervals": {f"{t:g}": intervals_of(footage, subset, t) for t in sorted(footage.by_interval)},
        }
    return sizes


def intervals_of(footage: Footage, subset: str, t: float) -> dict[str, float]:
    """Count the intervals, and of those with an action the share with more than one, in percent."""
    numbers = [
        len(covering_labels(video.segments, k * t, (k + 1) * t))
        for video in footage.videos(subset)
        for k in range(count_intervals(video.duration_seconds or 0.0, t))
    ]
    active = [number for number in numbers if number]
    several = sum(number > 1 for number in active) / max(1, len(active))
    return {"all": len(numbers), "with_action": len(active), "several_actions_percent": percent(several)}


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table: mAP, and what is found at tIoU 0.5 by length and overlap."""
    columns = [(trait, name) for trait in ("length", "overlap") for name in rows[0]["bins"][trait]]
    titles = ["", "0.5", "0.75", "0.95", "mean", "difference", *(f"found, {name}" for _, name in columns)]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for row in rows:
        span = "{:+.1f} to {:+.1f}".format(*row["difference"]) if "difference" in row else ""
        numbers = [f"{row[key]:.1f}" for key in ("map_0.5", "map_0.75", "map_0.95", "map")]
        found = [f"{row['bins'][trait][name]['found']:.0f}" for trait, name in columns]
        lines.append(f"| {row['source']}: {row['way']} | " + " | ".join([*numbers, span, *found]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
