"""Draw one video: everything random is fixed at the start, then frame after frame is drawn and encoded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from tsm_runtime.results import Segment
from tsm_train.synthetic.actor import MOST_FIGURES, Actor, draw_actor, random_actor
from tsm_train.synthetic.figure import Array
from tsm_train.synthetic.passers import Passer, draw_passer, random_passers
from tsm_train.synthetic.pen import Pen
from tsm_train.synthetic.places import SCENES, Stage, draw_place, draw_seat, draw_stand
from tsm_train.synthetic.plan import FRAMES_PER_SECOND, Step, true_segments
from tsm_train.synthetic.recording import MARGIN, Camera, Light, random_camera, random_light

SUPERSAMPLING = 3
"""The picture is drawn this many times larger and then reduced, which smooths its edges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTruth:
    """What is true of a drawn video; time that no segment covers is background."""

    scene: str
    duration_seconds: float
    segments: list[Segment]


@dataclass(frozen=True, slots=True, kw_only=True)
class Production:
    """All that is fixed for one video."""

    scene: str
    stage: Stage
    actors: list[Actor]
    passers: list[Passer]
    camera: Camera
    light: Light
    layer: Image.Image


def _random_layer(
    rng: np.random.Generator,
    scene: str,
    stage: Stage,
    actors: Sequence[Actor],
    camera: Camera,
) -> Image.Image:
    """Draw everything that does not move, with the margin around the visible picture."""
    size = (round(stage.width + 2 * stage.margin), round(stage.height + 2 * stage.margin))
    layer = Image.new("RGB", size)
    pen = Pen(layer, shift=(stage.margin, stage.margin))
    draw_place(pen, scene, stage, rng)
    for actor in actors:
        draw_seat(pen, actor.setting, actor.view, rng)
        draw_stand(pen, actor.setting, actor.view, actor.thing.radius, rng)
    return layer.rotate(math.degrees(camera.tilt_radians), resample=Image.Resampling.BICUBIC)


def _produce(
    seed: int, frames: int, width: int, height: int, scene: str | None, figures: int, short: float
) -> Production:
    # Separate streams, so that a scene given by the caller changes neither plan nor figure.
    plan_rng, figure_rng, place_rng, light_rng = (np.random.default_rng([seed, i]) for i in range(4))
    drawn_scene = str(place_rng.choice(SCENES))
    scene = scene or drawn_scene
    stage_width, stage_height = float(width * SUPERSAMPLING), float(height * SUPERSAMPLING)
    stage = Stage(
        width=stage_width,
        height=stage_height,
        horizon=place_rng.uniform(0.55, 0.74) * stage_height,
        margin=float(round(MARGIN * stage_width)),
    )
    streams = [(plan_rng, figure_rng), *(_streams(seed, number) for number in range(1, figures))]
    actors = [
        random_actor(plan, figure, frames, stage, number=number, figures=figures, short=short)
        for number, (plan, figure) in enumerate(streams)
    ]
    actors.sort(key=lambda actor: actor.view.y)  # who stands nearer is drawn later
    camera = random_camera(light_rng, stage)
    return Production(
        scene=scene,
        stage=stage,
        actors=actors,
        layer=_random_layer(place_rng, scene, stage, actors, camera),
        passers=random_passers(place_rng, scene, stage),
        camera=camera,
        light=random_light(light_rng, width, height),
    )


def _streams(seed: int, number: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Chance of what a further figure does and looks like."""
    return np.random.default_rng([seed, 5, number]), np.random.default_rng([seed, 6, number])


def _draw_stage(production: Production, steps: Sequence[Step], frame: int) -> Image.Image:
    """Draw a frame at the size of the stage; `steps` holds where each figure is in its plan."""
    stage, seconds = production.stage, frame / FRAMES_PER_SECOND
    shift_x, shift_y = production.camera.shift_at(seconds)
    left, top = round(stage.margin) - shift_x, round(stage.margin) - shift_y
    image = production.layer.crop((left, top, left + round(stage.width), top + round(stage.height)))
    pen = Pen(
        image,
        centre=(stage.width / 2, stage.height / 2),
        tilt_radians=production.camera.tilt_radians,
        shift=(shift_x, shift_y),
    )
    for passer in production.passers:
        draw_passer(pen, passer, stage, seconds)
    for actor, step in zip(production.actors, steps, strict=True):
        draw_actor(pen, actor, step, frame)
    return image


def _expose(production: Production, image: Image.Image, frame: int, corner: Array) -> npt.NDArray[np.uint8]:
    """Reduce a drawn stage to the output size and apply light and noise, (H, W, 3) RGB."""
    light = production.light
    height, width = light.gain.shape[:2]
    picture = np.asarray(image.reduce(SUPERSAMPLING), dtype=np.float32)
    angle = 2 * math.pi * light.flicker_hertz * frame / FRAMES_PER_SECOND
    picture = picture * (light.gain * np.float32(1 + light.flicker * math.sin(angle)))
    row, column = int(corner[0] * height), int(corner[1] * width)
    picture += light.noise[row : row + height, column : column + width]
    return np.clip(picture, 0, 255, out=picture).astype(np.uint8)


def count_frames(seconds: float, width: int, height: int) -> int:
    """Return the number of frames of a video, after a check of its measures.

    Raises:
        ValueError: no frame fits, or the size is odd or tiny.
    """
    frames = round(seconds * FRAMES_PER_SECOND)
    if frames < 1:
        raise ValueError(f"a video needs at least one frame of 1/{FRAMES_PER_SECOND} s, got {seconds} s")
    if width < 32 or height < 32 or width % 2 or height % 2:
        raise ValueError(f"width and height must be even and at least 32, got {width}x{height}")
    return frames


def check_action(figures: int, short: float) -> None:
    """Check how many figures act, and which share of their actions is very short.

    Raises:
        ValueError: one of them is out of range.
    """
    if not 1 <= figures <= MOST_FIGURES:
        raise ValueError(f"expected 1 to {MOST_FIGURES} figures, got {figures}")
    if not 0 <= short <= 1:
        raise ValueError(f"the share of short actions must be from 0 to 1, got {short:g}")


def _frames_of(production: Production, seed: int) -> Iterator[npt.NDArray[np.uint8]]:
    noise_rng = np.random.default_rng([seed, 4])
    steps_by_frame = zip(*(_step_of_each_frame(actor.plan) for actor in production.actors), strict=True)
    for frame, steps in enumerate(steps_by_frame):
        image = _draw_stage(production, steps, frame)
        yield _expose(production, image, frame, noise_rng.random(2))


def _step_of_each_frame(plan: Sequence[Step]) -> Iterator[Step]:
    return (step for step in plan for _ in range(step.start, step.stop))


def draw_frames(
    *,
    seed: int,
    seconds: float = 30.0,
    width: int = 192,
    height: int = 144,
    scene: str | None = None,
    figures: int = 1,
    short: float = 0.0,
) -> Iterator[npt.NDArray[np.uint8]]:
    """Draw the frames of a video, (H, W, 3) RGB uint8 each, not encoded; arguments as `draw_video`."""
    check_action(figures, short)
    frames = count_frames(seconds, width, height)
    yield from _frames_of(_produce(seed, frames, width, height, scene, figures, short), seed)


def _encode(path: Path, frames: Iterator[npt.NDArray[np.uint8]], width: int, height: int, crf: int) -> None:
    """Write frames as H.264; one thread, so that processes do not compete."""
    with av.open(str(path), "w", format="mp4") as container:
        # x264's macroblock tree reads memory that it never wrote: with it, equal pictures give unequal files.
        options = {"crf": str(crf), "x264-params": "mbtree=0"}
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, FRAMES_PER_SECOND)
        stream.codec_context.thread_count = 1
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def draw_video(
    path: Path,
    *,
    seed: int,
    seconds: float = 30.0,
    width: int = 192,
    height: int = 144,
    crf: int = 23,
    scene: str | None = None,
    figures: int = 1,
    short: float = 0.0,
) -> VideoTruth:
    """Draw a video, H.264 in MP4 with 25 frames per second; the file appears whole or not at all.

    Args:
        path: where to write; its folder exists.
        seed: fixes everything that is random.
        seconds: duration, rounded to whole frames.
        width: of the picture in pixels, even.
        height: of the picture in pixels, even.
        crf: constant rate factor of x264; lower is better and larger.
        scene: one of `SCENES`; None draws one.
        figures: 1, or 2 side by side with a plan each, so that actions overlap; where both do the same
            action at the same time, the union is one segment.
        short: share of the actions that last 0.2 to 0.4 s.

    Returns:
        The scene and the action segments, exact to the frame.

    Raises:
        ValueError: no frame fits, the size is odd or tiny, the scene is unknown, or `figures` or `short` is
            out of range.
    """
    check_action(figures, short)
    frames = count_frames(seconds, width, height)
    production = _produce(seed, frames, width, height, scene, figures, short)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        _encode(temporary, _frames_of(production, seed), width, height, crf)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return VideoTruth(
        scene=production.scene,
        duration_seconds=frames / FRAMES_PER_SECOND,
        segments=true_segments(actor.plan for actor in production.actors),
    )
