"""The truth file under edits, other programs, crashes and faulty input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tsm_runtime.errors import RunError, UsageError
from tsm_runtime.formats.ground_truth import read_ground_truth
from tsm_serve.review.entries import UNFINISHED, AnnotationEdit, EntryEdit, etag_of, segments_of, state_of
from tsm_serve.review.journal import Journal
from tsm_serve.review.truth import ConflictError, TruthFile


def edit(*segments: tuple[str, float, float], **more: Any) -> EntryEdit:
    return EntryEdit(
        annotations=[AnnotationEdit(label, (start, end)) for label, start, end in segments], **more
    )


def opened(folder: Path) -> TruthFile:
    return TruthFile(folder / "truth.json", Journal(folder / "state" / "journal.jsonl"))


def test_a_save_is_what_training_reads(tmp_path: Path) -> None:
    truth = opened(tmp_path)
    truth.save("a/b", edit(("run", 1, 2.5), scene="yard", state="done"), base="", who="anna", duration=9.0)
    (video,) = read_ground_truth(tmp_path / "truth.json").subset("training").videos
    assert (video.video_id, video.scene, video.duration_seconds) == ("a/b", "yard", 9.0)
    assert [(s.label, s.start_seconds, s.end_seconds) for s in video.segments] == [("run", 1.0, 2.5)]


def test_training_does_not_read_what_is_being_checked(tmp_path: Path) -> None:
    truth = opened(tmp_path)
    entry, etag = truth.save("v", edit(("run", 1, 2), subset="validation"), base="", who="anna")
    assert entry["subset"] == UNFINISHED
    assert state_of(entry, has_draft=True) == "checking"
    entry, _ = truth.save("v", edit(("run", 1, 2), subset="validation", state="done"), base=etag, who="anna")
    assert entry["subset"] == "validation"


def test_who_and_when_stay_with_what_is_unchanged(tmp_path: Path) -> None:
    truth = opened(tmp_path)
    _, etag = truth.save("v", edit(("run", 1, 2)), base="", who="anna")
    entry, _ = truth.save("v", edit(("run", 1, 2), ("jump", 3, 4)), base=etag, who="ben")
    assert [(a["label"], a["by"]) for a in entry["annotations"]] == [("run", "anna"), ("jump", "ben")]
    assert entry["review"]["by"] == "ben"


def test_a_second_annotation_lies_beside_the_truth(tmp_path: Path) -> None:
    truth = opened(tmp_path)
    _, etag = truth.save("v", edit(("run", 1, 2)), base="", who="anna")
    entry, _ = truth.save("v", edit(("run", 1, 3), layer="ben"), base=etag, who="ben")
    assert segments_of(entry) == [("run", 1.0, 2.0)]
    assert segments_of(entry, "ben") == [("run", 1.0, 3.0)]


def test_foreign_fields_and_videos_stay(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    path.write_text(
        json.dumps({"version": 7, "database": {"x": {"url": "u", "annotations": []}, "v": {"url": 1}}})
    )
    truth = opened(tmp_path)
    truth.save("v", edit(("run", 1, 2)), base=etag_of({"url": 1}), who="anna")
    document = json.loads(path.read_text())
    assert document["version"] == 7
    assert document["database"]["x"] == {"url": "u", "annotations": []}
    assert document["database"]["v"]["url"] == 1


def test_a_change_by_another_program_is_a_conflict_only_for_its_video(tmp_path: Path) -> None:
    truth = opened(tmp_path)
    _, etag = truth.save("v", edit(("run", 1, 2)), base="", who="anna")
    document = json.loads(truth.path.read_text())
    document["database"]["v"]["annotations"] = []
    truth.path.write_text(json.dumps(document))
    before = truth.path.read_bytes()
    with pytest.raises(ConflictError) as caught:
        truth.save("v", edit(("jump", 1, 2)), base=etag, who="anna")
    assert truth.path.read_bytes() == before
    assert caught.value.current == document["database"]["v"]
    truth.save("w", edit(("jump", 1, 2)), base="", who="anna")
    assert [*json.loads(truth.path.read_text())["database"]] == ["v", "w"]


def test_refresh_names_what_changed(tmp_path: Path) -> None:
    truth = opened(tmp_path)
    truth.save("v", edit(), base="", who="anna")
    assert truth.refresh() == set()
    truth.path.write_text(json.dumps({"database": {"w": {}}}))
    assert truth.refresh() == {"v", "w"}
    truth.path.unlink()
    assert truth.refresh() == {"w"}


def test_a_crash_between_journal_and_file_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = opened(tmp_path)
    _, etag = truth.save("v", edit(("run", 1, 2)), base="", who="anna")

    def crash(path: Path, data: bytes) -> None:
        raise RunError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("tsm_serve.review.truth.write_whole", crash)
        with pytest.raises(RunError):
            truth.save("v", edit(("run", 1, 2), ("jump", 3, 4)), base=etag, who="anna")
    with (tmp_path / "state" / "journal.jsonl").open("ab") as file:
        file.write(b'{"video": "half a li')  # as a crash within a line leaves it
    again = opened(tmp_path)
    assert again.recovered == "v"
    assert segments_of(again.entry("v")) == [("run", 1.0, 2.0), ("jump", 3.0, 4.0)]
    assert opened(tmp_path).recovered is None


def test_the_journal_does_not_undo_another_program(tmp_path: Path) -> None:
    truth = opened(tmp_path)
    truth.save("v", edit(("run", 1, 2)), base="", who="anna")
    truth.path.write_text('{"database": {}}')
    assert opened(tmp_path).recovered is None
    assert json.loads(truth.path.read_text()) == {"database": {}}


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    truth = TruthFile(tmp_path / "truth.json", Journal(Path("/dev/full")))
    with pytest.raises(RunError, match="No space left"):
        truth.save("v", edit(("run", 1, 2)), base="", who="anna")
    assert truth.entry("v") is None
    assert not truth.path.exists()


@pytest.mark.parametrize(
    "segment",
    [("", 1, 2), (" ", 1, 2), ("background", 1, 2), ("a", 2, 2), ("a", -1, 2), ("a", 0, float("inf"))],
)
def test_what_training_would_refuse_is_refused(tmp_path: Path, segment: tuple[str, float, float]) -> None:
    with pytest.raises(UsageError, match="segment 1"):
        opened(tmp_path).save("v", edit(segment), base="", who="anna")


@pytest.mark.parametrize("text", ["", "[]", '{"database": []}', '{"database": {"v": []}}'])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "truth.json").write_text(text)
    with pytest.raises(UsageError, match=r"truth\.json"):
        opened(tmp_path)
