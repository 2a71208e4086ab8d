"""Number of videos to decode at a time, so that the models are kept busy."""

from __future__ import annotations

_MOST_JOBS = 8
_CORES_PER_JOB = 4
"""The decoder's own threads and the one that converts: one video at up to some 500 frames a second."""
_JOBS_OF_UNKNOWN_ENGINES = 4
"""With fewer, the model waits for NVDEC: a stream gives 400 to 800 frames a second of 1080p."""


def decoding_jobs(*, on_gpu: bool, cores: int, nvdec: bool = False, engines: int | None = None) -> int:
    """Return the default number of jobs.

    Args:
        on_gpu: no model runs on the CPU, where decoding would take its cores.
        cores: of the CPU.
        nvdec: decoding is on the GPU.
        engines: of NVDEC; None: unknown.
    """
    if nvdec:
        return min(_MOST_JOBS, engines or _JOBS_OF_UNKNOWN_ENGINES)
    return max(1, min(_MOST_JOBS, cores // _CORES_PER_JOB)) if on_gpu else 1


def slower_stage_seconds(*, decoding: float, scoring: float, jobs: int, shares_cores: bool) -> float:
    """Return the least seconds that a run can take, from those of its stages alone.

    Args:
        decoding: seconds to decode and convert all videos, one after another.
        scoring: seconds of the models.
        jobs: videos decoded at a time.
        shares_cores: both stages need the same cores, so that neither hides behind the other.
    """
    return decoding + scoring if shares_cores else max(decoding / jobs, scoring)
