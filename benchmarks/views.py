"""Views together: a joint model of three cameras against each alone and against late fusion, on drawn scenes.

Draws videos (--training, --validation), and films each with three cameras: the whole picture; a mirrored
part of it; a dark and enlarged part of it that begins a second late. Each camera is blocked by a passer-by a
third of the time, at times of its own. Features are those of the demo model; a linear head is trained on the
features of all cameras, and the joint models on that. Figures are mAP (tIoU 0.5, 0.75, 0.95) of the
validation videos in percent, mean and standard deviation over --seeds. Read `single` (mean over the
cameras), `late` (fused segments), `mean` and `attention` (joint models), each also with the third camera
missing. The last line is one JSON object.

    python benchmarks/views.py FOLDER
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch
from _common import store
from sound import drawn_videos

from tsm_export.accuracy import OnnxBackend
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.bundle.manifest import sha256
from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.fusion.fuse import fuse_segments
from tsm_runtime.fusion.options import FusionOptions
from tsm_runtime.results import BACKGROUND, Segment
from tsm_runtime.segments.rules import SegmentRules
from tsm_train.config import Config, load_config
from tsm_train.data.video import TrainingVideo
from tsm_train.head.features import FeatureCache
from tsm_train.samples.clips import Labels
from tsm_train.sections.after_backbone import ViewsConfig
from tsm_train.synthetic.dataset import draw_dataset
from tsm_train.training.validation import TIOU_THRESHOLDS
from tsm_train.views.moments import CaptureMoments, Moments, read_moments
from tsm_train.views.network import ViewJoinNet
from tsm_train.views.run import JudgedViews, fit_views

CAMERAS = ("whole", "mirrored", "late")
_LATE_SECONDS = 1.0
_BLOCKED = 1 / 3
_HEAD_STEPS = 600


def main() -> None:
    """Draw, film, train, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="for videos and features; kept")
    parser.add_argument("--training", type=int, default=24)
    parser.add_argument("--validation", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    drawn = options.folder / "drawn"
    if not drawn.exists():
        size = {"width": 192, "height": 144, "processes": 1}
        counts = {"training": options.training, "validation": options.validation}
        draw_dataset(drawn, seed=5, seconds=options.seconds, **counts, **size)
    videos = film_all(drawn_videos(drawn / "ground_truth.json", drawn / "videos"), options.folder / "cameras")
    config = config_of(drawn)
    labels = Labels((*sorted({s.label for v in videos for s in v.segments}), BACKGROUND), ())
    cache = demo_features(config, options.folder / "features")
    training, judged = (
        read_moments([video for video in videos if video.subset == subset], cache, config.clip.num_frames)
        for subset in ("training", "validation")
    )
    rows = [one_seed(config, labels, training, judged, seed) for seed in options.seeds]
    figures = {name: spread([row[name] for row in rows]) for name in rows[0]}
    print(figures)
    store("views", {**vars(options), "folder": options.folder.name, "figures": figures, "rows": rows})


def config_of(drawn: Path) -> Config:
    """Return the configuration of the demo model on the drawn videos."""
    path = drawn / "views.toml"
    path.write_text(
        'name = "views"\n'
        f'data.annotations = "{(drawn / "ground_truth.json").absolute()}"\n'
        f'data.videos = "{(drawn / "videos").absolute()}"\n'
        "clip = {interval_seconds = 0.5, num_frames = 4, size = 96}\n"
        "segments.smoothing_seconds = 1.0\n"
    )
    return load_config(path)


def demo_features(config: Config, folder: Path) -> FeatureCache:
    """Return the features of the demo model."""
    demo = load_bundle(demo_folder() / "bundle")
    model = demo.model_bytes("model.fp32.onnx")
    labels = Labels(demo.manifest.action_labels, demo.manifest.scene_labels)
    return FeatureCache(OnnxBackend(model, 1), sha256(model), labels, config, folder)


# --- cameras --------------------------------------------------------------------------------------


def film_all(drawn: Sequence[TrainingVideo], folder: Path) -> list[TrainingVideo]:
    """Film each video with three cameras, unless it is there already."""
    folder.mkdir(exist_ok=True)
    found = []
    for number, video in enumerate(drawn):
        for camera, name in enumerate(CAMERAS):
            path = folder / f"{video.video_id}-{name}.mp4"
            late = _LATE_SECONDS if name == "late" else 0.0
            if not path.exists():
                film(video.path, path, name, late, np.random.default_rng((number, camera)))
            shifted = [
                replace(s, start_seconds=max(0.0, s.start_seconds - late), end_seconds=s.end_seconds - late)
                for s in video.segments
                if s.end_seconds > late
            ]
            found.append(
                replace(
                    video,
                    video_id=path.stem,
                    path=path,
                    view=name,
                    offset_seconds=late,
                    segments=tuple(shifted),
                    duration_seconds=1000.0 - late,
                )
            )
        print(number, video.video_id, flush=True)
    return found


def film(source: Path, target: Path, name: str, late: float, rng: np.random.Generator) -> None:
    """Write what a camera sees of a drawn video."""
    blocked_until, until = 0.0, 0.0
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        stream = made.add_stream("libx264", rate=given.streams.video[0].average_rate, options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = 192, 144, "yuv420p"
        for frame in given.decode(video=0):
            at = float(frame.pts * frame.time_base)
            if at < late:
                continue
            if at >= until:  # the next passer-by
                length = rng.uniform(2.0, 5.0)
                until, blocked_until = at + length, at + length * (rng.random() < _BLOCKED)
            picture = seen(frame.to_ndarray(format="rgb24"), name)
            if at < blocked_until:
                picture = np.full_like(picture, rng.integers(60, 90))
            out = av.VideoFrame.from_ndarray(picture, "rgb24")
            out.pts = round((at - late) * 1000)
            out.time_base = Fraction(1, 1000)
            made.mux(stream.encode(out))
        made.mux(stream.encode())


def seen(picture: npt.NDArray[np.uint8], name: str) -> npt.NDArray[np.uint8]:
    """Return a drawn picture as a camera sees it, in 192 x 144."""
    height, width = picture.shape[:2]
    if name == "mirrored":
        picture = picture[:, ::-1][height // 10 :, : width * 9 // 10]
    if name == "late":
        picture = (picture[height // 8 :, width // 10 : width * 9 // 10] * 0.6).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
    return frame.reformat(width=192, height=144).to_ndarray()


# --- models ---------------------------------------------------------------------------------------


def one_seed(
    config: Config,
    labels: Labels,
    training: Sequence[CaptureMoments],
    judged: Sequence[CaptureMoments],
    seed: int,
) -> dict[str, float]:
    """Return the figures of all variants."""
    moments = Moments.of(training, labels, config.clip.interval_seconds)
    head = picture_head(moments, labels, seed)
    rules = SegmentRules(smoothing_seconds=config.segments.smoothing_seconds)
    plain = JudgedViews(untrained(head, labels), labels, config, rules)
    found = {"single": statistics.mean(figure(plain, only(judged, view)) for view in range(len(CAMERAS)))}
    without = [without_last(each) for each in judged]
    found |= {"late": late_fusion(plain, judged), "late, one missing": late_fusion(plain, without)}
    for join in ("mean", "attention"):
        network = fit_views(moments, [head], labels, ViewsConfig(join=join), seed=seed)  # type: ignore[arg-type]
        judge = JudgedViews(network, labels, config, rules)
        found |= {join: figure(judge, judged), f"{join}, one missing": figure(judge, without)}
        found[f"{join}, single"] = statistics.mean(
            figure(judge, only(judged, v)) for v in range(len(CAMERAS))
        )
    print(seed, found, flush=True)
    return {name: round(100 * value, 2) for name, value in found.items()}


def picture_head(moments: Moments, labels: Labels, seed: int) -> torch.nn.Linear:
    """Train a linear head on the features of all cameras."""
    torch.manual_seed(seed)
    there = moments.present > 0
    features = moments.features[there]
    targets = moments.actions[:, None].expand(there.shape)[there]
    mean, std = features.mean(0), features.std(0) + 0.05
    head = torch.nn.Linear(features.shape[1], len(labels.actions))
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.003, weight_decay=0.1)
    for _ in range(_HEAD_STEPS):
        picked = torch.randint(len(features), (64,))
        inputs = torch.nn.functional.dropout((features[picked] - mean) / std, 0.5)
        loss = torch.nn.functional.cross_entropy(head(inputs), targets[picked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():  # for features that are not normalised
        head.weight /= std
        head.bias -= head.weight @ mean
    return head


def untrained(head: torch.nn.Linear, labels: Labels) -> ViewJoinNet:
    """Return the picture model, as a joint model that weights evenly and changes nothing."""
    network = ViewJoinNet(head.in_features, len(labels.actions), 0, join="mean").eval()
    network.picture_head.load_state_dict(head.state_dict())
    return network


def only(judged: Sequence[CaptureMoments], view: int) -> list[CaptureMoments]:
    """Return all captures with one camera alone."""
    return [one for each in judged if (one := each.only(view)) is not None]


def without_last(moments: CaptureMoments) -> CaptureMoments:
    """Return a capture without its last camera."""
    kept = moments.present[:, :-1].any(axis=1)
    return replace(
        moments,
        indices=moments.indices[kept],
        features=moments.features[kept, :-1],
        present=moments.present[kept, :-1],
    )


def figure(judge: JudgedViews, judged: Sequence[CaptureMoments]) -> float:
    """Return the mAP."""
    return judge.metrics(judged)["map"]


def late_fusion(judge: JudgedViews, judged: Sequence[CaptureMoments]) -> float:
    """Return the mAP of the fused segments of the cameras."""
    found: dict[str, list[Segment]] = {}
    for each in judged:
        alone = [each.only(view) for view in range(each.present.shape[1])]
        members = [None if one is None else judge.segments(one) for one in alone]
        found[each.capture] = fuse_segments(members, None, FusionOptions())
    return evaluate({each.capture: each.segments for each in judged}, found, TIOU_THRESHOLDS).average_map


def spread(values: Sequence[float]) -> list[float]:
    """Return mean and standard deviation."""
    return [round(statistics.mean(values), 2), round(statistics.stdev(values) if len(values) > 1 else 0.0, 2)]


if __name__ == "__main__":
    main()
