"""Making a split: by capture, stratified by scene and by the seconds of each class, seeded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.video.finding import EGOCENTRIC
from tsm_train.data.allocation import allocate
from tsm_train.data.annotated import Source
from tsm_train.data.dataset import read_labelled_sources
from tsm_train.data.split import Split, read_split
from tsm_train.sections.data import DataConfig


def make_split(
    data: DataConfig,
    path: Path,
    *,
    validation: float = 0.2,
    test: float = 0.0,
    folds: int = 0,
    seed: int = 0,
) -> Split:
    """Divide the captures of a data set.

    Offsets that stand in the file of that name, or in `data.split`, are kept.

    Args:
        data: the section.
        path: where the split is to be written, for messages; nothing is written here.
        validation: share of the captures; not used with folds.
        test: share of the captures that is kept apart.
        folds: 0, or in how many equal parts the captures are divided, each of which validates once.
        seed: of chance.

    Raises:
        UsageError: shares that do not fit, too few captures, or annotations that cannot be read.
    """
    _check_shares(validation, test, folds)
    _, sources, _ = read_labelled_sources(data)
    captures = _traits([source for source in sources if source.path is not None])
    unseen = tuple(dict.fromkeys(s.capture for s in sources if s.capture not in captures))
    rest = 1 - test
    shares = [test, *([rest / folds] * folds if folds else [rest - validation, validation])]
    try:
        # Training, and a fold by what the others have, may not lack a class.
        kept_apart, *parts = allocate(captures, shares, seed=seed, may_own=[] if folds else [1])
    except ValueError as error:
        raise UsageError(f"{data.annotations or data.root}: {error}") from error
    about = {"seed": seed, "test": test, **({"folds": folds} if folds else {"validation": validation})}
    # What another view may show one day belongs to a subset too.
    groups = [(*parts[0], *unseen), *(tuple(part) for part in parts[1:])]
    training = tuple(name for group in groups[1:] for name in group) if folds else groups[0]
    scored = groups[0] if folds else groups[1]
    return Split(
        where=str(path),
        subsets={"training": training, "validation": scored, "test": tuple(kept_apart)},
        folds=tuple(groups) if folds else (),
        offsets=_offsets(sources, path, data),
        about=about,
    )


def _check_shares(validation: float, test: float, folds: int) -> None:
    if folds == 1 or folds < 0:
        raise UsageError(f"--folds {folds}: expected 2 or more")
    if not 0 <= test < 1:
        raise UsageError(f"--test {test:g}: expected a share, 0 or more and less than 1")
    if not folds and not (validation > 0 and validation + test < 1):
        raise UsageError(
            f"--validation {validation:g} --test {test:g}: expected shares that leave something to train on"
        )


def _traits(sources: Sequence[Source]) -> Mapping[str, Mapping[str, float]]:
    """Scene and seconds of each class by capture; of several views the one with most counts."""
    captures: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for source in sources:
        seconds: defaultdict[str, float] = defaultdict(float)
        for segment in source.segments:
            seconds[f"action {segment.label}"] += segment.end_seconds - segment.start_seconds
        if source.scene is not None:
            seconds[f"scene {source.scene}"] = 1.0
        traits = captures[source.capture]
        for name, value in seconds.items():
            traits[name] = max(value, traits.get(name, 0.0))
    return captures


def _offsets(sources: Sequence[Source], path: Path, data: DataConfig) -> dict[str, float | None]:
    """Known offsets, and null for each further clip of glasses: the file is a form to be filled in."""
    known: dict[str, float | None] = {}
    for file in (Path(data.split) if data.split else None, path):
        if file is not None and file.exists():
            known |= {
                clip: seconds for clip, seconds in read_split(file).offsets.items() if seconds is not None
            }
    clips = {s.video_id: None for s in sources if s.view in EGOCENTRIC and s.path is not None}
    return {**clips, **known}
