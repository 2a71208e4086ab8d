"""Predictors that misbehave, for tests on a real cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from tsm_runtime.archive.predictor import Predictor


class SlowPredictor(Predictor):
    """Takes a third of a second more for each video, so that there is time to kill something."""

    def __call__(self, batch: Any) -> Iterator[Any]:
        for table in super().__call__(batch):
            time.sleep(0.3)
            yield table


class PoisonedPredictor(Predictor):
    """Dies of every video whose name has `poison` in it, as of a crash in a decoder or for want of memory."""

    def __call__(self, batch: Any) -> Iterator[Any]:
        if any("poison" in path for path in batch.to_pydict()["path"]):
            os._exit(137)
        yield from super().__call__(batch)
