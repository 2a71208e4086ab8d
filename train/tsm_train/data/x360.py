"""The 360+x data set in its official layout.

    panoramic/<uuid>.mp4           third_person/<uuid>.mp4
    binocular/<uuid>/clip1.mp4     monocular/<uuid>/clip1.mp4
    TAL_annotations/<uuid>.json    index.json

Times of the annotations are seconds of the 360-degree video, which `panoramic` and `third_person` show from
its beginning. The clips of the glasses carry no time of it.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import msgspec

from tsm_runtime.captures.layout import videos_of_view
from tsm_runtime.errors import UsageError
from tsm_runtime.files import noting, read_json
from tsm_runtime.formats.annotations import read_via_file
from tsm_runtime.formats.csv_truth import read_scenes
from tsm_runtime.formats.kaggle import SCENE_LABELS
from tsm_runtime.results import Segment
from tsm_runtime.strict import convert
from tsm_runtime.video.finding import EGOCENTRIC
from tsm_train.data.annotated import Source
from tsm_train.data.places import TAL_FOLDER
from tsm_train.data.problems import Problems
from tsm_train.sections.data import DataConfig

_INDEX = "index.json"


class _IndexEntry(msgspec.Struct):
    uuid: str
    category: str | None = None


def read_x360(data: DataConfig, problems: Problems) -> list[Source]:
    """Read the configured views of all annotated captures.

    A capture without the view is among them, with no path, so that one split fits all views. An entry that is
    no segment with an action is left out with a warning, as the data set's own tools do.

    Raises:
        UsageError: there is no annotation at all.
    """
    root = Path(data.root)
    annotated = _read_segments(root / TAL_FOLDER, problems)
    if not annotated:
        raise UsageError(f"{root / TAL_FOLDER}: no <uuid>.json in this folder")
    scenes = _read_index(root / _INDEX, problems)
    if data.scenes:
        faults: list[str] = []
        scenes |= read_scenes(Path(data.scenes), faults=faults)
        for fault in faults:
            problems.add("annotation", fault)
    _check_scenes(scenes, root / _INDEX, problems)
    sources = []
    for view in data.views:
        found = dict(videos_of_view(root, view))
        _tell_missing(root / view, view, annotated, found, problems)
        there = {uuid for uuid, _ in found.values()}
        missing = {f"{view}/{uuid}": (uuid, None) for uuid in annotated if uuid not in there}
        for video_id, (uuid, path) in {**found, **missing}.items():
            if uuid in annotated:
                sources.append(
                    Source(
                        video_id=video_id,
                        entry=str(root / TAL_FOLDER / f"{uuid}.json"),
                        path=path,
                        capture=uuid,
                        view=view,
                        segments=annotated[uuid],
                        scene=scenes.get(uuid),
                    )
                )
    return sources


def _read_segments(folder: Path, problems: Problems) -> dict[str, tuple[Segment, ...]]:
    """Segments by uuid, which is the file's name, whatever a VIA project inside calls its video."""
    annotated = {}
    for path in sorted(folder.glob("*.json")):
        faults: list[str] = []
        notes: list[str] = []
        try:
            found = read_via_file(path, faults=faults, notes=notes)
        except UsageError as error:
            problems.add("annotation", str(error))
            continue
        for fault in faults:
            problems.add("left-out-entry", fault)
        for note in notes:
            problems.add("not-utf-8", note)
        segments = [segment for each in found.values() for segment in each]
        annotated[path.stem] = tuple(
            sorted(segments, key=lambda s: (s.start_seconds, s.end_seconds, s.label))
        )
    return annotated


def _read_index(path: Path, problems: Problems) -> dict[str, str]:
    if not path.exists():
        problems.add("scene", f"{path}: there is no such file, so no scene is known")
        return {}
    scenes: dict[str, str] = {}
    faults: list[str] = []
    with noting(faults):
        content = read_json(path, faults)
        if not isinstance(content, list):
            raise UsageError(f'{path}: expected a list of {{"uuid": ..., "category": ...}}')
        for number, raw in enumerate(content, start=1):
            with noting(faults):
                _add_scene(scenes, raw, f"{path}: entry {number}")
    for fault in faults:
        problems.add("annotation", fault)
    return scenes


def _add_scene(scenes: dict[str, str], raw: object, where: str) -> None:
    entry = convert(raw, _IndexEntry, where)
    if not entry.uuid.strip():
        raise UsageError(f"{where}: empty uuid")
    if entry.category is None or not entry.category.strip():
        raise UsageError(f"{where}: uuid {entry.uuid!r} has no category")
    if scenes.setdefault(entry.uuid, entry.category) != entry.category:
        raise UsageError(f"{where}: uuid {entry.uuid!r} has the category {scenes[entry.uuid]!r} already")


def _check_scenes(scenes: dict[str, str], path: Path, problems: Problems) -> None:
    for scene in sorted(set(scenes.values()) - set(SCENE_LABELS)):
        near = difflib.get_close_matches(scene, SCENE_LABELS, n=1)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        problems.add("unknown-scene", f"{path}: {scene!r} is not one of the 28 scenes of 360+x{hint}")


def _tell_missing(
    folder: Path,
    view: str,
    annotated: dict[str, tuple[Segment, ...]],
    found: dict[str, tuple[str, Path]],
    problems: Problems,
) -> None:
    there = {uuid for uuid, _ in found.values()}
    what = "<uuid>/clip1.mp4" if view in EGOCENTRIC else "<uuid>.mp4"
    if not there:
        problems.add("missing-video", f"{folder}: no video of this view; expected {what} in this folder")
        return
    for uuid in sorted(annotated.keys() - there):
        problems.add("missing-view", f"{folder}: no video of capture {uuid}; left out")
    for uuid in sorted(there - annotated.keys()):
        problems.add("not-annotated", f"{folder / uuid}: no {TAL_FOLDER}/{uuid}.json; left out")
