"""An archive on a Ray cluster: actors decode and score, the driver writes results and records.

Ray (extra `cluster`) is imported on first use.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tsm_runtime.archive.predictor import Predictor
from tsm_runtime.archive.rows import OutcomeRow, failed_outcome, outcome_of_row, plan_row
from tsm_runtime.captures.selection import CapturePlan
from tsm_runtime.errors import BackendError, RunError, UsageError

_TRIES_AFTER_A_DEATH = 2
"""Number of retries of a batch whose actor or node died; then its videos are tried one by one."""

_BYTES_IN_BATCH = 4 * 2**20
_MOST_IN_BATCH = 32
"""Short videos share a batch, so that Ray's overhead per batch is small; long ones do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """Cluster and number of workers of an archive run.

    Args:
        address: address of a cluster, `auto` for the one of this machine, or `local` for a new one here.
        workers: number of actors; 0: as many as the cluster has room for.
        worker_cpus, worker_gpus: reserved for each actor.
    """

    address: str = "auto"
    workers: int = 0
    worker_cpus: float = 1.0
    worker_gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.workers < 0 or self.worker_cpus <= 0 or self.worker_gpus < 0:
            raise UsageError("--workers must be 0 or more, --worker-cpus above 0, --worker-gpus 0 or more")


def require_ray() -> Any:
    """Return the module ray, with its usage reports disabled.

    Raises:
        BackendError: Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise BackendError("--ray needs Ray: pip install 'tsm-tal[cluster]'") from error
    return ray


@contextmanager
def connected(options: RayOptions) -> Generator[Any]:
    """Yield the module ray, connected to a cluster; an existing connection is used and kept.

    Raises:
        BackendError: Ray is not installed, or there is no cluster at the address.
    """
    ray = require_ray()
    if ray.is_initialized():
        yield ray
        return
    address = None if options.address == "local" else options.address
    more = {"include_dashboard": False} if address is None else {}
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **more)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise BackendError(
            f"--ray {options.address}: no Ray cluster there ({error}); --ray local begins one"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def ray_outcomes(
    ray: Any,
    plans: Sequence[CapturePlan],
    predictor: Mapping[str, object],
    options: RayOptions,
    *,
    urls: Mapping[str, Sequence[str]] | None = None,
    sizes: Mapping[str, int] | None = None,
    in_order: bool = False,
    kind: type[Predictor] = Predictor,
) -> Generator[OutcomeRow]:
    """Run videos or captures on a cluster, and yield each outcome once, when it is known.

    A batch whose actor or node dies is tried again, then video by video; a video whose worker always dies is
    a failure of its own.

    Args:
        ray: the connected module.
        plans: plans to run; every node sees the files under these paths, or opens their addresses.
        predictor: arguments of `Predictor`.
        options: number and resources of workers.
        urls: addresses of a plan's videos by its id, see `plan_row`.
        sizes: bytes of the files by id, for the size of batches.
        in_order: yield in the order of the plans, which waits for slow ones.
        kind: class that the actors run.

    Raises:
        RunError: the cluster was lost.
    """
    waiting = {plan.capture_id: plan for plan in plans}
    rows = {plan.capture_id: plan_row(plan, (urls or {}).get(plan.capture_id, ())) for plan in plans}
    for batch_size in (_batch_size(plans, sizes or {}, options), 1):
        todo = [rows[name] for name in waiting]
        for outcome in _one_pass(ray, todo, predictor, options, batch_size, in_order=in_order, kind=kind):
            if waiting.pop(outcome.outcome.plan.capture_id, None) is not None:
                yield outcome
        if not waiting:
            return
    for plan in waiting.values():
        reason = "its worker died each time that it was tried: a crash, or out of memory"
        yield OutcomeRow(failed_outcome(plan, f"{plan.named.path}: {reason}"), {})


def _batch_size(plans: Sequence[CapturePlan], sizes: Mapping[str, int], options: RayOptions) -> int:
    mean = sum(sizes.values()) / len(sizes) if sizes else _BYTES_IN_BATCH
    by_size = int(_BYTES_IN_BATCH // max(mean, 1))
    for_all_workers = len(plans) // (8 * max(options.workers, 1))
    return max(1, min(by_size, for_all_workers, _MOST_IN_BATCH))


def _one_pass(
    ray: Any,
    given: Sequence[Mapping[str, object]],
    predictor: Mapping[str, object],
    options: RayOptions,
    batch_size: int,
    *,
    in_order: bool,
    kind: type[Predictor],
) -> Generator[OutcomeRow]:
    context = ray.data.DataContext.get_current().copy()
    context.max_errored_blocks = -1  # the videos of a batch that is given up are missing, and tried again
    context.execution_options.preserve_order = in_order
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    workers = options.workers or _room(ray, options)
    with ray.data.DataContext.current(context):
        rows = ray.data.from_items(list(given), override_num_blocks=max(1, -(-len(given) // batch_size)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # max_task_retries has no other way in until Ray 2.64
            found = rows.map_batches(
                kind,
                fn_constructor_kwargs={**predictor, "keep_outcomes": True},
                batch_size=batch_size,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(workers, max(1, len(given)))),
                num_cpus=options.worker_cpus,
                num_gpus=options.worker_gpus or None,
                max_task_retries=_TRIES_AFTER_A_DEATH,
            )
        try:
            for row in found.iter_rows():
                yield outcome_of_row(row)
        except ray.exceptions.RayError as error:
            raise RunError(
                f"the Ray cluster was lost: {str(error).splitlines()[0]}; go on with --resume"
            ) from error


def _room(ray: Any, options: RayOptions) -> int:
    """Return the number of actors that the cluster has room for."""
    there = ray.cluster_resources()
    by_cpu = there.get("CPU", 1) / options.worker_cpus
    by_gpu = there.get("GPU", 0) / options.worker_gpus if options.worker_gpus else by_cpu
    return max(1, int(min(by_cpu, by_gpu)))
