"""A folder of videos under review: the data behind the page, and its edits."""

from __future__ import annotations

import getpass
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.files import read_json
from tsm_runtime.outputs.class_colors import color_slots
from tsm_runtime.results import BACKGROUND
from tsm_runtime.video.reader import VideoReader
from tsm_serve.review.agreement import agreement
from tsm_serve.review.draft_store import Draft, DraftStore
from tsm_serve.review.drafting import Drafting, Publish
from tsm_serve.review.entries import Entry, EntryEdit, etag_of, segments_of, state_of
from tsm_serve.review.journal import Journal
from tsm_serve.review.times import FrameTimes, all_times
from tsm_serve.review.truth import TruthFile
from tsm_serve.review.videos import ReviewVideo, find_videos

STATE_FOLDER = ".tsm-review"
"""Beside the truth file: journal, drafts, trainings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectPlaces:
    """Where a project's files are.

    Args:
        folder: of the videos.
        truth: the file that is edited; need not exist.
    """

    folder: Path
    truth: Path

    @property
    def state(self) -> Path:
        """The folder of everything that is neither a video nor the truth."""
        return self.truth.absolute().parent / STATE_FOLDER


class Project:
    """Videos, truth, drafts and times of one folder. Threads may use it at once.

    Args:
        places: where its files are.
        who: name that edits are stamped with where the page gives none.
        publish: gets an event per change.

    Raises:
        UsageError: the folder holds no video, or the truth file is not ActivityNet JSON.
    """

    def __init__(self, places: ProjectPlaces, who: str, publish: Publish) -> None:
        self.places = places
        self.who = who
        self.publish = publish
        self.videos = {video.video_id: video for video in find_videos(places.folder)}
        self.read_only = why_not_writable(places.truth)
        self.truth = TruthFile(places.truth, Journal(places.state / "journal.jsonl"))
        self.drafts = DraftStore(places.state / "drafts")
        self.drafting = Drafting(self.drafts, publish)
        self.times = FrameTimes()
        self._seconds: dict[str, float | None] = {}

    # --- what the page shows ------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """Return the facts that concern all videos."""
        labels = self._names("labels", self._labels_in_use())
        return {
            "folder": str(self.places.folder),
            "truth": str(self.places.truth),
            "who": self.who,
            "labels": labels,
            "colors": color_slots(labels),
            "scenes": self._names("scenes", self._scenes_in_use()),
            "readOnly": self.read_only,
            "strangers": [i for i in self.truth.video_ids if i not in self.videos],
            "recovered": self.truth.recovered,
        }

    def list_videos(self) -> list[dict[str, Any]]:
        """Return a line per video."""
        return [self._line(video) for video in self.videos.values()]

    def show(self, video_id: str) -> dict[str, Any]:
        """Return everything about one video.

        Raises:
            UsageError: there is no such video.
        """
        video = self.video(video_id)
        self.drafting.want(video_id)
        entry = self.truth.entry(video_id)
        return {
            **self._line(video),
            **_shown_entry(entry),
            "etag": etag_of(entry),
            "file": video.path.name,
            "drafts": _shown_segments(self.drafts.get(video_id)),
            "draftScenes": _shown_scenes(self.drafts.get(video_id)),
            "draftFailure": self.drafting.state().failed.get(video_id, ""),
        }

    def video(self, video_id: str) -> ReviewVideo:
        """Return a video by its id.

        Raises:
            UsageError: there is none of this id.
        """
        found = self.videos.get(video_id)
        if found is None:
            raise UsageError(f"no video {video_id!r} in {self.places.folder}")
        return found

    def compare(self, video_id: str, layer: str) -> dict[str, Any]:
        """Return the agreement of the truth with one annotator's layer.

        Raises:
            UsageError: there is no such video or layer.
            VideoError: the video cannot be read.
        """
        entry = self.truth.entry(video_id)
        others = ((entry or {}).get("review") or {}).get("others") or {}
        if layer not in others:
            raise UsageError(f"video {video_id!r} has no annotation by {layer!r}")
        frames = all_times(self.video(video_id).path)
        found = agreement(segments_of(entry), segments_of(entry, layer), frames)
        return {"layer": layer, "tiou": found.tiou, "kappa": found.kappa, "frames": found.num_frames}

    # --- what edits change --------------------------------------------------------------------------

    def save(self, video_id: str, edit: EntryEdit, *, base: str, who: str) -> dict[str, Any]:
        """Store an edit and return the video as `show` does.

        Raises:
            ConflictError, UsageError, RunError: see `TruthFile.save`.
        """
        self.video(video_id)
        seconds = self._known_seconds(video_id)
        self.truth.save(video_id, edit, base=base, who=who or self.who, duration=seconds)
        self.read_only = None
        self.publish({"kind": "entry", "id": video_id})
        return self.show(video_id)

    def save_names(self, key: str, names: Iterable[str], who: str) -> None:
        """Store the order of labels or scenes, which is that of their keys.

        Raises:
            UsageError, RunError: see `TruthFile.save_names`.
        """
        cleaned = list(dict.fromkeys(name.strip() for name in names if name.strip()))
        if BACKGROUND in cleaned:
            raise UsageError(f"label {BACKGROUND!r} is reserved; leave background unannotated")
        self.truth.save_names(key, cleaned, who=who or self.who)
        self.publish({"kind": "project"})

    def look_for_changes(self) -> None:
        """Read the truth again if another program changed it, and publish what differs.

        Raises:
            UsageError: it is no longer ActivityNet JSON.
        """
        for video_id in self.truth.refresh():
            self.publish({"kind": "entry", "id": video_id})

    def probe_lengths(self, stop: threading.Event) -> None:
        """Look up the claimed length of every video, for the list; in a thread of its own."""
        for video_id, video in self.videos.items():
            if stop.is_set():
                return
            self._seconds[video_id] = _claimed_seconds(video.path)
        self.publish({"kind": "lengths"})

    # --- parts --------------------------------------------------------------------------------------

    def _line(self, video: ReviewVideo) -> dict[str, Any]:
        entry = self.truth.entry(video.video_id)
        draft = self.drafts.get(video.video_id)
        return {
            "id": video.video_id,
            "state": state_of(entry, has_draft=draft is not None),
            "seconds": self._known_seconds(video.video_id),
            "segments": len((entry or {}).get("annotations") or ()),
            "drafted": len(draft.segments) if draft is not None else 0,
            "subset": _subset_of(entry),
        }

    def _known_seconds(self, video_id: str) -> float | None:
        draft = self.drafts.get(video_id)
        if draft is not None and draft.duration_seconds:
            return draft.duration_seconds
        if video_id in self._seconds:
            return self._seconds[video_id]
        stored = (self.truth.entry(video_id) or {}).get("duration")
        return float(stored) if isinstance(stored, int | float) else None

    def _names(self, key: str, in_use: Iterable[str]) -> list[str]:
        stored = self.truth.names(key)
        return [*stored, *sorted({*in_use} - {*stored})]

    def _labels_in_use(self) -> set[str]:
        found = {s.label for i in self.videos if (d := self.drafts.get(i)) for s in d.segments}
        for video_id in self.truth.video_ids:
            entry = self.truth.entry(video_id)
            layers = ((entry or {}).get("review") or {}).get("others") or {}
            for layer in ("", *layers):
                found.update(label for label, *_ in segments_of(entry, layer))
        return found | self._model_names("action_labels")

    def _scenes_in_use(self) -> set[str]:
        entries = (self.truth.entry(video_id) or {} for video_id in self.truth.video_ids)
        stored = {entry["scene"] for entry in entries if isinstance(entry.get("scene"), str)}
        return stored | self._model_names("scene_labels")

    def _model_names(self, key: str) -> set[str]:
        bundle = self.drafting.bundle
        if bundle is None:
            return set()
        manifest = read_json(bundle / "manifest.json")
        names = manifest.get(key, []) if isinstance(manifest, dict) else []
        return {str(name) for name in names} - {BACKGROUND}


def user_name() -> str:
    """Return the name of the user of this machine."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "annotator"


def why_not_writable(truth: Path) -> str | None:
    """Return the reason why nothing can be saved beside the truth file, or None."""
    folder = truth.absolute().parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"{folder}: {error.strerror or error}; nothing can be saved"


def _claimed_seconds(path: Path) -> float | None:
    try:
        with VideoReader(path) as reader:
            return reader.claimed_seconds
    except VideoError:
        return None


def _subset_of(entry: Entry | None) -> str:
    review = (entry or {}).get("review") or {}
    return str(review.get("subset") or (entry or {}).get("subset") or "training")


def _shown_entry(entry: Entry | None) -> dict[str, Any]:
    entry = entry or {}
    review = entry.get("review") or {}
    return {
        "annotations": entry.get("annotations") or [],
        "scene": entry.get("scene") or "",
        "comment": review.get("comment") or "",
        "others": review.get("others") or {},
        "by": review.get("by") or "",
        "at": review.get("at") or "",
    }


def _shown_segments(draft: Draft | None) -> list[dict[str, Any]]:
    segments = draft.segments if draft is not None else ()
    return [
        {"label": s.label, "segment": [s.start_seconds, s.end_seconds], "score": round(s.score, 4)}
        for s in segments
    ]


def _shown_scenes(draft: Draft | None) -> list[dict[str, Any]]:
    scenes = draft.scenes if draft is not None else ()
    return [{"label": scene.label, "score": round(scene.score, 4)} for scene in scenes]
