"""Area under the monotone envelope of precision over recall, with all points (VOC 2011 and later)."""

from __future__ import annotations

import numpy as np

from tsm_runtime.evaluation.matching import Matching
from tsm_runtime.evaluation.segment_table import Bools, Floats


def average_precision(hits: Bools, num_truth: int, *, normal_num_truth: float | None = None) -> Floats:
    """Return the average precision of one class, per threshold.

    Recall grows by 1 / num_truth at every true positive, so the area is the mean, over all instances, of the
    envelope at the prediction that found the instance.

    Args:
        hits: (P, K) whether a prediction is true, in visiting order.
        num_truth: instances of the class, at least one.
        normal_num_truth: see `precision_at_ranks`.

    Returns:
        (K,), 0 to 1.
    """
    precision = precision_at_ranks(hits, num_truth, normal_num_truth=normal_num_truth)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    return np.asarray((envelope * hits).sum(axis=0) / num_truth, dtype=np.float64)


def precision_at_ranks(hits: Bools, num_truth: int, *, normal_num_truth: float | None = None) -> Floats:
    """Return the precision after each prediction of one class, per threshold.

    Args:
        hits: (P, K) whether a prediction is true, in visiting order.
        num_truth: instances of the class, at least one.
        normal_num_truth: N of the normalised precision recall * N / (recall * N + false positives), which
            makes classes of different size comparable (Alwassel et al., Diagnosing Error in Temporal Action
            Detectors, ECCV 2018, after Hoiem et al. 2012); None: N = num_truth, the plain precision.

    Returns:
        (P, K), 0 to 1.
    """
    found = np.cumsum(hits, axis=0)
    rank = np.arange(1, len(hits) + 1)[:, np.newaxis]
    if normal_num_truth is None:
        return np.asarray(found / rank, dtype=np.float64)
    normal = found * (normal_num_truth / num_truth)
    return np.asarray(normal / np.maximum(normal + (rank - found), np.finfo(np.float64).tiny))


def class_average_precision(matching: Matching) -> Floats:
    """Return the average precision of every class of the truth at every threshold, (C, K)."""
    hits = matching.hits
    return np.array(
        [
            average_precision(hits[matching.predictions.rows_of(label)], int(count))
            for label, count in enumerate(matching.num_truth)
        ]
    )
