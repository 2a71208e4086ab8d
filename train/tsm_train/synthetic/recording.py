"""How a drawn scene is recorded: camera and light."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_train.synthetic.figure import Array
from tsm_train.synthetic.places import Stage

MARGIN = 0.12


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """Tilt, slow drift and shake in stage pixels.

    Args:
        tilt_radians: turn of the whole picture.
        sizes: (K, 2) amplitude of each movement along x and y.
        rates_hertz: (K,).
        phases: (K, 2) radians.
    """

    tilt_radians: float
    sizes: Array
    rates_hertz: Array
    phases: Array

    def shift_at(self, seconds: float) -> tuple[int, int]:
        """Return the movement of the picture at a time, in whole stage pixels."""
        angles = 2 * math.pi * self.rates_hertz[:, None] * seconds + self.phases
        x, y = (self.sizes * np.sin(angles)).sum(axis=0)
        return round(float(x)), round(float(y))


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """Brightness and noise of the finished picture.

    Args:
        gain: (H, W, 3) factor per pixel.
        flicker: relative amplitude of a slow change of brightness.
        flicker_hertz: its rate.
        noise: (2 H, 2 W, 3) to add, read at a random place for every frame.
    """

    gain: npt.NDArray[np.float32]
    flicker: float
    flicker_hertz: float
    noise: npt.NDArray[np.float32]


def random_camera(rng: np.random.Generator, stage: Stage) -> Camera:
    """Return a camera that looks at the stage, still or held by hand."""
    drift, shake = rng.uniform(0, 0.02, 2), rng.choice([0.0, 1.0]) * rng.uniform(0, 0.004, 2)
    return Camera(
        tilt_radians=math.radians(rng.uniform(-2.5, 2.5)),
        sizes=np.stack([drift, shake]) * stage.height,
        rates_hertz=np.array([rng.uniform(0.03, 0.12), rng.uniform(0.8, 2.0)]),
        phases=rng.uniform(0, 2 * math.pi, (2, 2)),
    )


def random_light(rng: np.random.Generator, width: int, height: int) -> Light:
    """Return a light for pictures of this size."""
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    direction = rng.uniform(0, 2 * math.pi)
    gain = 1 + rng.uniform(0, 0.22) * (math.cos(direction) * x + math.sin(direction) * y)
    gain -= rng.uniform(0, 0.12) * (x * x + y * y)
    warmth = rng.uniform(-0.08, 0.08)
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    noise = rng.normal(0, rng.uniform(1.0, 6.0), (2 * height, 2 * width, 3))
    return Light(
        gain=(rng.uniform(0.7, 1.15) * gain[:, :, None] * tint).astype(np.float32),
        flicker=rng.uniform(0, 0.05),
        flicker_hertz=rng.uniform(0.1, 0.6),
        noise=noise.astype(np.float32),
    )
