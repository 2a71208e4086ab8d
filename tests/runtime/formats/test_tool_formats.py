"""Files in the shapes that other tools write: BORIS, Label Studio, CVAT, VIA 2, frame labels and others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tsm_runtime.errors import UsageError
from tsm_runtime.formats.annotations import read_annotations
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.formats.read_write import read_segments

Spans = dict[str, list[tuple[str, float, float]]]
Write = Callable[[str, Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def call(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return call


def drafts(path: Path, **options: Any) -> Spans:
    """The segments as a draft, which must be those as ground truth."""
    read = read_segments(path, options=ReadOptions(**options))
    found = {
        name: [(s.label, round(s.start_seconds, 6), round(s.end_seconds, 6)) for s in segments]
        for name, segments in read.items()
    }
    assert {name: each for name, each in truth(path, **options).items() if each} == {
        name: each for name, each in found.items() if each
    }
    return found


def truth(path: Path, **options: Any) -> Spans:
    return {
        video.video_id: [
            (s.label, round(s.start_seconds, 6), round(s.end_seconds, 6)) for s in video.segments
        ]
        for video in read_annotations(path, options=ReadOptions(**options)).videos
    }


# --- BORIS ----------------------------------------------------------------------------------------


def boris(*events: list[Any], **more: Any) -> dict[str, Any]:
    observation = {
        "file": {"1": ["C:\\videos\\day 1.mp4"], "2": []},
        "type": "MEDIA",
        "date": "2024-05-01T10:00:00",
        "time offset": 0.0,
        "events": list(events),
        "media_info": {"length": {"C:\\videos\\day 1.mp4": 60.0}, "fps": {}, "offset": {"1": 0.0}},
        **more,
    }
    return {
        "project_format_version": "7.0",
        "behaviors_conf": {
            "0": {"type": "State event", "key": "s", "code": "sit", "modifiers": ""},
            "1": {"type": "Point event", "key": "p", "code": "peck", "modifiers": ""},
        },
        "observations": {"one": observation},
    }


def test_boris_states_are_pairs_of_the_same_subject_and_modifier(write: Write) -> None:
    events = [
        [1.0, "hen", "sit", "", ""],
        [2.0, "cock", "sit", "", "", 50],
        [4.5, "hen", "sit", "", ""],
        [8.0, "cock", "sit", "", "", 200],
    ]
    path = write("p.boris", boris(*events))
    assert drafts(path) == {"day 1": [("sit", 1.0, 4.5), ("sit", 2.0, 8.0)]}


def test_boris_points_are_left_out_or_get_a_length(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write(
        "p.boris", boris([3.0, "", "peck", "", ""], [5.0, "", "sit", "", ""], [6.0, "", "sit", "", ""])
    )
    assert drafts(path) == {"day 1": [("sit", 5.0, 6.0)]}
    assert "1 event at a point in time left out" in caplog.text
    assert drafts(path, point_seconds=0.5) == {"day 1": [("peck", 3.0, 3.5), ("sit", 5.0, 6.0)]}


def test_boris_files_one_after_another_and_at_the_same_time(write: Write) -> None:
    media = {
        "file": {"1": ["a.mp4", "b.mp4"], "2": ["side/c.mp4"]},
        "media_info": {
            "length": {"a.mp4": 10.0, "b.mp4": 10.0, "side/c.mp4": 30.0},
            "offset": {"1": 0.0, "2": -2.0},
        },
        "time offset": 100.0,
    }
    path = write("p.boris", boris([108.0, "", "sit", "", ""], [113.0, "", "sit", "", ""], **media))
    assert drafts(path) == {"a": [("sit", 8, 10)], "b": [("sit", 0, 3)], "c": [("sit", 10, 15)]}


def test_boris_observations_without_events_are_not_annotated(write: Write) -> None:
    project = boris()
    path = write("p.boris", project)
    read = read_annotations(path)
    assert (read.videos, read.unannotated) == ((), ("day 1",))
    assert truth(path, unannotated="background") == {"day 1": []}
    assert read_segments(path) == {}


def test_boris_live_observations_are_left_out(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write("p.json", boris([1, "", "sit", "", ""], type="LIVE", file=[]))
    assert drafts(path) == {}
    assert "1 observation without a video left out: 'one'" in caplog.text


@pytest.mark.parametrize(
    ("events", "more", "message"),
    [
        ([[1.0, "", "sit", "", ""]], {}, "event 1: 'sit' starts at 1 s and does not stop"),
        ([["x", "", "sit", "", ""]], {}, "event 1: the time is 'x'; expected seconds"),
        ([[1.0, "sit"]], {}, "event 1: 2 values; expected time, subject"),
        ([], {"file": {"1": ["a.mp4", "b.mp4"]}}, "the length of 'a.mp4' is not in the project"),
    ],
)
def test_boris_faults_name_the_event(
    write: Write, events: list[list[Any]], more: dict[str, Any], message: str
) -> None:
    path = write("p.boris", boris(*events, **more))
    with pytest.raises(UsageError, match=rf"p\.boris: observation 'one'.*{message}"):
        read_segments(path)
    faults: list[str] = []
    read_annotations(path, faults=faults)
    assert [message in fault for fault in faults] == [True]


AGGREGATED_7 = (
    "Observation id,Observation date,Description,Media file,Total length,FPS,Subject,Behavior,"
    "Behavioral category,Modifiers,Behavior type,Start (s),Stop (s),Duration (s),Comment start,Comment stop\n"
    "o1,2020-01-01,,T:/v/6008.mp4,1381.0,29.97,No focal subject,sit,,,STATE,689.000,989.023,300.023,,\n"
    "o1,2020-01-01,,T:/v/6008.mp4,1381.0,29.97,No focal subject,peck,,,POINT,700.5,700.5,NA,,\n"
)
AGGREGATED_8 = (
    "Observation id\tObservation type\tSource\tTime offset (s)\tMedia duration (s)\tSubject\tBehavior\t"
    "Behavior type\tStart (s)\tStop (s)\tDuration (s)\tMedia file name\n"
    "o1\tMedia file\tplayer #1:v/a.mp4;v/b.mp4|player #2:c.mp4\t5.0\t100.000;50.000|150.0\then\tsit\tSTATE\t"
    "115.0\t125.5\t10.5\tv/b.mp4\n"
)
TABULAR_7 = (
    "Observation id\to1\t\t\n\t\t\t\nPlayer #1\tv/a.mp4\t\t\n\t\t\t\n"
    "Time\tMedia file path\tTotal length\tFPS\tSubject\tBehavior\tBehavioral category\tComment\tStatus\n"
    "3.300\tv/a.mp4\t359.960\t25.0\ts1\tsit\t\t\tSTART\n"
    "4.000\tv/a.mp4\t359.960\t25.0\ts2\tsit\t\t\tSTART\n"
    "7.750\tv/a.mp4\t359.960\t25.0\ts1\tsit\t\t\tSTOP\n"
    "8.000\tv/a.mp4\t359.960\t25.0\ts2\tsit\t\t\tSTOP\n"
)


def test_boris_tables_of_both_kinds_and_ages(write: Write) -> None:
    assert drafts(write("a.csv", AGGREGATED_7)) == {"6008": [("sit", 689.0, 989.023)]}
    assert drafts(write("b.tsv", AGGREGATED_8)) == {"b": [("sit", 10.0, 20.5)]}
    assert drafts(write("c.tsv", TABULAR_7)) == {"a": [("sit", 3.3, 7.75), ("sit", 4.0, 8.0)]}
    assert drafts(write("c.txt", TABULAR_7)) == {"a": [("sit", 3.3, 7.75), ("sit", 4.0, 8.0)]}


def test_boris_tables_without_lengths_of_several_files_are_refused(write: Write) -> None:
    second = AGGREGATED_7 + "o1,2020-01-01,,b.mp4,1381.0,29.97,,sit,,,STATE,1000,1001,1,,\n"
    with pytest.raises(UsageError, match=r"line 4: its observation has several files, .*give the \.boris"):
        read_segments(write("a.csv", second))
    with pytest.raises(UsageError, match=r"c\.tsv, line 6: a START at 3\.3 s has no STOP"):
        read_segments(
            write(
                "c.tsv",
                TABULAR_7.rsplit("\n", 3)[0]
                .replace("7.750", "9")
                .replace("STOP", "x")
                .replace("9\tv/a.mp4\t359.960\t25.0\ts1\tsit\t\t\tx", ""),
            )
        )


# --- Label Studio ---------------------------------------------------------------------------------


def region(first: int, last: int, label: str, **more: Any) -> dict[str, Any]:
    value = {"ranges": [{"start": first, "end": last}], "timelinelabels": [label]}
    return {"id": "r", "type": "timelinelabels", "to_name": "video", "from_name": "l", "value": value, **more}


def task(name: str, *annotations: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    done = [{"id": n, "result": result} for n, result in enumerate(annotations)]
    return {"id": 1, "data": {"video": name}, "annotations": done, "predictions": [], **more}


def test_label_studio_ranges_count_frames_from_one_and_include_the_last(write: Write) -> None:
    name = "/data/upload/3/a1b2c3d4-day_1.mp4"
    path = write("export.json", [task(name, [region(26, 50, "run"), region(1, 25, "sit")])])
    assert drafts(path, frame_rate=25.0) == {"day_1": [("sit", 0.0, 1.0), ("run", 1.0, 2.0)]}
    with pytest.raises(UsageError, match="the file states no frame rate; give --frame-rate"):
        read_segments(path)


def test_label_studio_states_the_rate_in_data_or_by_another_region(write: Write) -> None:
    box = {"type": "videorectangle", "value": {"framesCount": 240, "duration": 10.0, "sequence": []}}
    path = write("e.json", [task("/data/local-files/?d=set/a.mp4", [box, region(1, 24, "run")])])
    assert drafts(path) == {"a": [("run", 0.0, 1.0)]}
    with_fps = task("b.mp4", [region(1, 50, "run")])
    with_fps["data"]["fps"] = "50"
    assert drafts(write("f.json", [with_fps])) == {"b": [("run", 0.0, 1.0)]}


def test_label_studio_annotations_and_predictions(write: Write) -> None:
    guess = [{"result": [region(1, 10, "sit", score=0.25)]}]
    tasks = [
        task("a.mp4", predictions=guess),
        task("b.mp4", [region(1, 10, "run")], [region(11, 20, "hop")]),
        task("c.mp4", []),
    ]
    tasks[1]["annotations"][1]["ground_truth"] = True
    path = write("e.json", tasks)
    read = read_annotations(path, options=ReadOptions(frame_rate=10.0))
    assert read.unannotated == ("a",)
    assert truth(path, frame_rate=10.0) == {"b": [("hop", 1.0, 2.0)], "c": []}
    found = read_segments(path, options=ReadOptions(frame_rate=10.0))
    assert [(s.label, s.score) for s in found["a"]] == [("sit", 0.25)]


def test_label_studio_minimal_and_sound(write: Write) -> None:
    minimal = [{"video": "/x/a.mp4", "id": 5, "l": [region(1, 10, "run")["value"]], "annotator": 1}]
    assert drafts(write("m.json", minimal), frame_rate=10.0) == {"a": [("run", 0.0, 1.0)]}
    assert drafts(write("m.json", [minimal[0] | {"fps": 20.0}])) == {"a": [("run", 0.0, 0.5)]}
    sound = {"type": "labels", "value": {"start": 1.5, "end": 2.25, "channel": 0, "labels": ["clap"]}}
    assert drafts(write("s.json", [task("a.wav", [sound])])) == {"a": [("clap", 1.5, 2.25)]}


# --- CVAT and VIA 2 -------------------------------------------------------------------------------

CVAT_VIDEO = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>7</id><name>job</name><size>100</size>
<mode>interpolation</mode><start_frame>0</start_frame><stop_frame>99</stop_frame><frame_filter></frame_filter>
<source>day1.mp4</source></task></meta>
<track id="0" label="person" source="manual">
 <box frame="10" outside="0" occluded="0" keyframe="1" xtl="1" ytl="1" xbr="2" ybr="2">
  <attribute name="action">sit</attribute></box>
 <box frame="20" outside="0" occluded="0" keyframe="1" xtl="1" ytl="1" xbr="2" ybr="2">
  <attribute name="action">run</attribute></box>
 <box frame="35" outside="1" occluded="0" keyframe="1" xtl="1" ytl="1" xbr="2" ybr="2">
  <attribute name="action">run</attribute></box>
</track></annotations>"""

CVAT_IMAGES = """<annotations><version>1.1</version><meta><task><id>7</id><name>day1.mp4</name>
<start_frame>100</start_frame><frame_filter>step=5</frame_filter></task></meta>
<image id="0" name="frame_000100" width="8" height="8"><tag label="sit" source="manual"/></image>
<image id="1" name="frame_000105" width="8" height="8"><tag label="sit" source="manual"/></image>
<image id="2" name="frame_000110" width="8" height="8"></image>
<image id="3" name="frame_000115" width="8" height="8"><tag label="run" source="manual"/></image>
</annotations>"""


def test_cvat_tracks_and_their_attributes(write: Write) -> None:
    path = write("a.xml", CVAT_VIDEO)
    assert drafts(path, frame_rate=10.0) == {"day1": [("person", 1.0, 3.5)]}
    found = drafts(path, frame_rate=10.0, attribute="action")
    assert found == {"day1": [("sit", 1.0, 2.0), ("run", 2.0, 3.5)]}
    with pytest.raises(UsageError, match="states no frame rate"):
        read_segments(path)


def test_cvat_tags_of_sampled_frames(write: Write) -> None:
    path = write("a.xml", CVAT_IMAGES)
    assert drafts(path, frame_rate=10.0) == {"day1": [("sit", 10.0, 11.0), ("run", 11.5, 12.0)]}


def test_via2_frames_of_two_videos(write: Write) -> None:
    def image(name: str, **values: Any) -> dict[str, Any]:
        return {"filename": name, "size": 5, "regions": [], "file_attributes": values}

    images = [image(f"a_{n:04}.jpg", action="run" if n < 4 else "") for n in range(1, 7)]
    images += [image(f"clips/b/{n}.png", action={"sit": True, "hop": n == 2}) for n in (1, 2, 3)]
    project = {"_via_settings": {}, "_via_img_metadata": {i["filename"] + "5": i for i in images}}
    expected = {"a": [("run", 0.0, 0.3)], "b": [("hop", 0.1, 0.2), ("sit", 0.0, 0.3)]}
    found = drafts(write("p.json", project), frame_rate=10.0, first_frame=1)
    assert {name: sorted(each) for name, each in found.items()} == expected
    alone = drafts(write("q.json", project["_via_img_metadata"]), frame_rate=10.0, first_frame=1)
    assert alone == found


def test_via2_asks_which_attribute(write: Write) -> None:
    two = {"k": {"filename": "a_1.jpg", "regions": [], "file_attributes": {"action": "x", "light": "y"}}}
    path = write("p.json", two)
    with pytest.raises(UsageError, match=r"attributes 'action', 'light'; choose .* with --attribute"):
        read_segments(path, options=ReadOptions(frame_rate=1.0))
    assert drafts(path, frame_rate=1.0, attribute="light", first_frame=1) == {"a": [("y", 0.0, 1.0)]}


# --- frame labels ---------------------------------------------------------------------------------


def test_frame_labels_of_a_folder_with_mapping(write: Write) -> None:
    write("gt/groundTruth/v1.txt", "background\ncut\ncut\npeel\nbackground\n")
    write("gt/groundTruth/v2.txt", "1\n1\n")
    write("gt/mapping.txt", "0 background\n1 cut\n2 peel\n")
    folder = write("gt/groundTruth/v3.txt", "background\n").parent
    expected = {"v1": [("cut", 0.1, 0.3), ("peel", 0.3, 0.4)], "v2": [("cut", 0.0, 0.2)], "v3": []}
    assert truth(folder, frame_rate=10.0) == expected
    assert drafts(folder / "v1.txt", frame_rate=10.0) == {"v1": expected["v1"]}
    bad = write("gt/groundTruth/v4.txt", "background\nfly\n")
    with pytest.raises(UsageError, match=r"v4\.txt, line 2: label 'fly' is not in mapping\.txt"):
        read_segments(bad, options=ReadOptions(frame_rate=10.0))


def test_other_names_of_the_background(write: Write) -> None:
    path = write("v.txt", "SIL\nSIL\ntake cup\n")
    assert drafts(path, frame_rate=1.0, background_labels=("SIL",)) == {"v": [("take cup", 2.0, 3.0)]}


def test_one_hot_of_deepethogram(write: Write) -> None:
    rows = ["0,1,0,0", "1,0,1,0", "2,0,1,1", "3,1,0,0", "4,-1,-1,-1"]
    text = ",background,groom,rear\n" + "\n".join(rows) + "\n"
    path = write("day_labels.csv", text)
    assert drafts(path, frame_rate=10.0) == {"day": [("groom", 0.1, 0.3), ("rear", 0.2, 0.3)]}
    unlabelled = write("x_labels.csv", ",background,groom\n0,-1,-1\n1,-1,-1\n")
    assert read_annotations(unlabelled).unannotated == ("x",)
    with pytest.raises(UsageError, match=r"y\.csv, line 3: 'groom' is '2'; expected 0, 1, or -1"):
        read_segments(write("y.csv", ",background,groom\n0,0,1\n1,0,2\n"))


# --- THUMOS, EPIC and any CSV ---------------------------------------------------------------------


def test_thumos_has_a_file_for_each_class(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    write("t/Diving_val.txt", "video_validation_0000051  67.5  75.9\nvideo_validation_0000051 85.9 90.6\n")
    write("t/Ambiguous_val.txt", "video_validation_0000051  1.0  2.0\n")
    folder = write(
        "t/CliffDiving_val.txt", "video_validation_0000051 67.5 75.9\nvideo_validation_7 1 2\n"
    ).parent
    assert truth(folder) == {
        "video_validation_0000051": [
            ("CliffDiving", 67.5, 75.9),
            ("Diving", 67.5, 75.9),
            ("Diving", 85.9, 90.6),
        ],
        "video_validation_7": [("CliffDiving", 1.0, 2.0)],
    }
    assert "file of ambiguous instances left out" in caplog.text
    with pytest.raises(UsageError, match=r"D_val\.txt, line 2: expected a video and two times"):
        read_segments(write("D_val.txt", "video_1 1 2\nvideo_1 one two\n"))


EPIC = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,"
    "stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
    "P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,3,door,3,['door'],[3]\n"
    "P01_01_9,P01,P01_01,00:01:01.089,00:01:00.5,01:00:03.0,8,202,take,take,0,plate:big,3,['b'],[3]\n"
)


def test_epic_kitchens(write: Write) -> None:
    path = write("EPIC_100_train.csv", EPIC)
    assert drafts(path) == {"P01_01": [("open door", 0.14, 3.37), ("take plate:big", 60.5, 3603.0)]}
    assert [label for label, _, _ in drafts(path, attribute="verb")["P01_01"]] == ["open", "take"]


@pytest.mark.parametrize(
    ("text", "columns", "more"),
    [
        (
            "clip;begin;finish;what\n/v/a.mp4;1,5;0:02.5;run\n",
            "video=clip,start=begin,end=finish,label=what",
            {},
        ),
        ("a.mp4\t1500\t1000\trun\n", "video=1,start=2,duration=3,label=4,unit=ms", {}),
        (
            'what,"a, b",last,file\nrun,16,25,a\n',
            'video=file,"start=a, b",last=last,label=what,unit=frames',
            {"frame_rate": 10.0, "first_frame": 1},
        ),
        (
            "file,s,e,what\na,15,25,run\n",
            "video=file,start=s,end=e,label=what,unit=frames",
            {"frame_rate": 10.0},
        ),
    ],
)
def test_a_csv_of_any_shape(write: Write, text: str, columns: str, more: dict[str, Any]) -> None:
    assert drafts(write("any.csv", text), columns=columns, **more) == {"a": [("run", 1.5, 2.5)]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("begin=a", "'begin=a'; expected NAME=COLUMN with video, start, end"),
        ("start=a,end=b", "no label"),
        ("start=a,label=b", "expected one of end, last and duration"),
        ("start=a,end=c,label=b,unit=hours", "unit 'hours'; expected seconds, ms, frames"),
        ("start=a,last=c,label=b", "add unit=frames"),
        ("start=a,end=nope,label=b", "no column nope"),
        ("start=a,end=c,label=b", "line 2 .*: c is 'x'; expected seconds"),
    ],
)
def test_wrong_columns_are_named(write: Write, columns: str, message: str) -> None:
    path = write("any.csv", "a,b,c\n1,run,x\n")
    with pytest.raises(UsageError, match=message):
        read_segments(path, options=ReadOptions(columns=columns))
