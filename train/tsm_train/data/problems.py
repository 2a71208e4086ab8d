"""What is wrong with a data set: each problem is of a kind, and the kind says whether training may begin."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tsm_runtime.errors import UsageError

_ERRORS = {
    "annotation": "an entry that cannot be read, and would silently be missing",
    "no-subset": "the data are not divided into training and validation",
    "no-instance": "nothing to learn, or nothing to score, in a subset",
    "capture-in-two-subsets": "what is learnt by heart would be scored",
    "same-video-twice": "one video under two names, in different subsets",
    "segment-beyond-end": "an action where the video is over: wrong file, wrong time unit, wrong offset",
    "missing-video": "annotated, but there is no file",
    "only-in-validation": "a class that cannot be learnt, but is scored",
    "label-not-found": "a label of the configuration that occurs nowhere: misspelt?",
}
_WARNINGS = {
    "left-out-entry": "an entry of 360+x annotations that is no segment with an action",
    "not-utf-8": "text with bytes that are not UTF-8",
    "unreadable-video": "a video that does not decode; it is skipped",
    "breaks-off": "a video whose end is missing; the part before it is used",
    "missing-view": "a capture without the configured view",
    "no-offset": "an egocentric clip whose place on the time line is unknown; it is left out",
    "not-annotated": "a video without annotations; it is left out, not taken for background",
    "unknown-scene": "a scene that is not one of the 28 of 360+x",
    "scene": "a capture whose scene is unknown or never trained on",
    "duration": "the annotations give another length than the video has",
    "similar-labels": "labels that differ in case or spaces only",
    "dropped-label": "labels that the configuration leaves out",
    "same-instance-twice": "the same label at the same time twice",
    "never-an-interval": "instances, but no interval of this length is given the label",
    "too-short": "a video shorter than one interval",
}
KINDS = {**_ERRORS, **_WARNINGS}
"""Every kind, and what it means. `data.accept` makes warnings of the errors it names."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One line for a person, naming file and entry."""

    kind: str
    message: str
    is_error: bool


@dataclass(slots=True)
class Problems:
    """Collects problems in the order in which they are found.

    Args:
        accept: kinds of errors that count as warnings.

    Raises:
        UsageError: no such kind.
    """

    accept: Sequence[str] = ()
    _found: dict[Problem, None] = field(default_factory=dict, init=False)  # a set that keeps the order

    def __post_init__(self) -> None:
        for kind in self.accept:
            if kind not in _ERRORS:
                near = difflib.get_close_matches(kind, _ERRORS, n=1)
                known = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_ERRORS)}"
                raise UsageError(f"data.accept = {kind!r}: no such kind of error; {known}")

    def add(self, kind: str, message: str) -> None:
        """Note a problem."""
        assert kind in KINDS, kind
        self._found[Problem(kind, message, kind in _ERRORS and kind not in self.accept)] = None

    @property
    def found(self) -> list[Problem]:
        """All, each once."""
        return list(self._found)

    @property
    def errors(self) -> list[Problem]:
        """Those that keep from training."""
        return [problem for problem in self.found if problem.is_error]

    @property
    def warnings(self) -> list[Problem]:
        """The others."""
        return [problem for problem in self.found if not problem.is_error]

    def summary(self, most: int = 3) -> list[str]:
        """Messages of the warnings, of each kind the first ones and the number of the others."""
        counts = Counter(problem.kind for problem in self.warnings)
        shown: Counter[str] = Counter()
        lines = []
        for problem in self.warnings:
            shown[problem.kind] += 1
            if shown[problem.kind] <= most:
                lines.append(problem.message)
            elif shown[problem.kind] == most + 1:
                lines.append(
                    f"... and {counts[problem.kind] - most} more of this kind; tsm-inspect lists all"
                )
        return lines

    def raise_errors(self) -> None:
        """Refuse to go on where there are errors.

        Raises:
            UsageError: the first error, and how many there are.
        """
        if errors := self.errors:
            more = f" (the first of {len(errors)} errors)" if len(errors) > 1 else ""
            raise UsageError(
                f"{errors[0].message}{more}\ntsm-inspect lists all;"
                f' data.accept = ["{errors[0].kind}"] trains in spite of this kind'
            )
