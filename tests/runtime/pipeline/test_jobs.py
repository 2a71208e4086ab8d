"""How many videos are decoded at a time, and what bounds a run."""

from __future__ import annotations

from typing import Any

import pytest

from tsm_runtime.pipeline.jobs import decoding_jobs, slower_stage_seconds


@pytest.mark.parametrize(
    ("given", "jobs"),
    [
        ({"on_gpu": False, "cores": 64}, 1),
        ({"on_gpu": True, "cores": 1}, 1),
        ({"on_gpu": True, "cores": 9}, 2),
        ({"on_gpu": True, "cores": 128}, 8),
        ({"on_gpu": True, "cores": 2, "nvdec": True}, 4),
        ({"on_gpu": True, "cores": 2, "nvdec": True, "engines": 1}, 1),
        ({"on_gpu": True, "cores": 64, "nvdec": True, "engines": 7}, 7),
        ({"on_gpu": True, "cores": 64, "nvdec": True, "engines": 16}, 8),
    ],
)
def test_jobs_keep_the_models_busy(given: dict[str, Any], jobs: int) -> None:
    assert decoding_jobs(**given) == jobs


@pytest.mark.parametrize(
    ("decoding", "scoring", "jobs", "shares_cores", "seconds"),
    [
        (8.0, 2.0, 1, False, 8.0),
        (8.0, 2.0, 4, False, 2.0),
        (8.0, 3.0, 4, False, 3.0),
        (8.0, 3.0, 4, True, 11.0),
    ],
)
def test_the_slower_stage_bounds_a_run(
    decoding: float, scoring: float, jobs: int, shares_cores: bool, seconds: float
) -> None:
    found = slower_stage_seconds(decoding=decoding, scoring=scoring, jobs=jobs, shares_cores=shares_cores)
    assert found == seconds
