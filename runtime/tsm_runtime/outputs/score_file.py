"""Files of the scores of intervals and frames (`--scores`), and of the features of frames (`--features`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.errors import UsageError
from tsm_runtime.formats.parquet import require_pyarrow
from tsm_runtime.models.member import Member
from tsm_runtime.outputs.array_content import FeatureContent, ScoreContent
from tsm_runtime.outputs.array_files import KINDS, ArrayFile
from tsm_runtime.outputs.base import Sink, SinkAround
from tsm_runtime.results import Result


def check_array_file(flag: str, path: Path, others: Sequence[str | Path | None]) -> None:
    """Check the name of a file of scores or features before the run.

    Args:
        flag: option, for messages.
        path: the file.
        others: the other outputs.

    Raises:
        UsageError: the suffix is unknown, the folder is missing, or the file is another output too.
        BackendError: the file needs pyarrow, which is not installed.
    """
    if path.suffix.lower() not in KINDS:
        raise UsageError(f"{flag} {path}: expected a name that ends with {', '.join(KINDS)}")
    if path.suffix.lower() == ".parquet":
        require_pyarrow()
    if not path.parent.is_dir():
        raise UsageError(f"{flag} {path}: there is no folder {path.parent}")
    if any(other is not None and Path(other) == path for other in others):
        raise UsageError(f"{flag} {path}: that is another output too; choose another name")


def with_scores(sink: Sink, path: Path, members: Sequence[Member]) -> Sink:
    """Return a sink that passes results to `sink` and writes their scores.

    Raises:
        UsageError: there are several models, or a label has the name of a column.
        RunError: the file cannot be written.
    """
    member = _single(members, "--scores")
    content = ScoreContent(member.action_labels, member.scene_labels)
    if path.suffix.lower() == ".parquet":
        content.check_columns()
    return _ArraySink(sink, KINDS[path.suffix.lower()](path, content))


def with_features(sink: Sink, path: Path, members: Sequence[Member], bundles: Sequence[Bundle]) -> Sink:
    """Return a sink that passes results to `sink` and writes the features of their frames.

    Raises:
        UsageError: there are several models, the model gives no features, or its clips overlap.
        RunError: the file cannot be written.
    """
    member = _single(members, "--features")
    if not bundles[0].manifest.feature_dim:
        raise UsageError(
            "--features: the model gives no features of frames; export it again without --no-frame-scores"
        )
    if member.spec.num_open > 1:
        raise UsageError("--features: overlapping clips give a frame several; leave out --window, --stride")
    content = FeatureContent(bundles[0].manifest.feature_dim)
    return _ArraySink(sink, KINDS[path.suffix.lower()](path, content))


def _single(members: Sequence[Member], flag: str) -> Member:
    if len(members) > 1:
        raise UsageError(f"{flag} is for one model: run each model of an ensemble alone")
    return members[0]


class _ArraySink(SinkAround):
    def __init__(self, sink: Sink, file: ArrayFile) -> None:
        super().__init__(sink)
        self._file = file

    def add(self, result: Result) -> None:
        self._file.add(result)
        super().add(result)

    def close(self) -> None:
        super().close()
        self._file.close()
