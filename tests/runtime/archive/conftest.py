"""A real Ray cluster of two node processes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DOUBLES = Path(__file__).parents[1] / "doubles"


def start_cluster(num_nodes: int) -> Any:
    """Start a head without room for actors and nodes with one core each; each is a process of its own."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(DOUBLES), *sys.path])
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory}
    )
    for _ in range(num_nodes):
        cluster.add_node(num_cpus=1, **memory)
    return cluster


@pytest.fixture
def quiet_ray() -> Iterator[None]:
    """Let Ray leave its sockets and files open, as it does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray")
    before = dict(os.environ)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started = start_cluster(2)
        yield started
        import ray

        ray.shutdown()
        started.shutdown()
    os.environ.clear()
    os.environ.update(before)
