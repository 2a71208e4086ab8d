"""Files of another kind in place of a video or of annotations: one line says what they are."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from pathlib import Path

import pytest
from media import plain, write_video

from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.files import read_json
from tsm_runtime.formats.annotations import read_annotations
from tsm_runtime.video.contents import has_index
from tsm_runtime.video.reader import VideoReader

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", [plain(20)] * 50)


def refused(path: Path) -> str:
    with pytest.raises(VideoError) as caught, VideoReader(path):
        pass
    return str(caught.value).removeprefix(f"{path}: ")


def test_what_lies_in_place_of_a_video(tmp_path: Path, video: Path) -> None:
    with zipfile.ZipFile(tmp_path / "zip.mp4", "w") as archive:
        archive.write(video)
    for name, content, said in (
        ("lfs.mp4", POINTER, "a Git LFS pointer in place of the file; fetch it with: git lfs pull"),
        ("gz.mp4", gzip.compress(video.read_bytes()), "compressed by gzip; unpack it first"),
        ("zip.mp4", (tmp_path / "zip.mp4").read_bytes(), "a ZIP archive or a workbook; unpack it"),
        ("page.mp4", b"<!DOCTYPE html>\n<html>Sign in</html>", "a web page; the download gave an error page"),
        ("a.wav", b"RIFF\x24\0\0\0WAVEfmt ", "sound without pictures (WAV); give the video that it"),
        ("a.mp3", b"ID3\x04" + bytes(50), "sound without pictures (MP3)"),
        ("zeros.mp4", bytes(100_000), "it begins with zeros; the download or copy is incomplete"),
    ):
        (tmp_path / name).write_bytes(content)
        assert refused(tmp_path / name).startswith(f"not a readable video: {said}")


def test_an_mp4_that_ends_before_its_index(tmp_path: Path, video: Path) -> None:
    part = tmp_path / "part.mp4"
    part.write_bytes(video.read_bytes()[:-200])
    assert has_index(video)
    data = video.read_bytes()
    part.write_bytes(data[: data.index(b"moov") - 4])
    assert not has_index(part)
    assert refused(part).startswith("not a readable video: an MP4 without its index (moov); the recording")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert refused(tmp_path / "pipe.mp4").startswith("a pipe or device, not a file; run it with: tsm-live ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps({"database": {}}).encode("utf-16"), "not UTF-8 text (text in UTF-16; save it as UTF-8)"),
        (
            b"PK\x03\x04\x14\xff\xfe",
            "a ZIP archive or a workbook; unpack it, or save the workbook's",
        ),
        (POINTER, "not JSON: a Git LFS pointer in place of the file"),
        (b"\n", "not JSON: the file is empty"),
        (
            b"{'database': {}}",
            "not JSON: single quotes, as Python prints a dictionary; write",
        ),
        (b"<html>", "not JSON: a web page; the download gave an error page"),
        (b'{"a": 1,}', "not JSON: Expecting property name"),
    ],
)
def test_what_lies_in_place_of_annotations(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    for read in (read_json, read_annotations):
        with pytest.raises(UsageError) as caught:
            read(tmp_path / "a.json")
        assert said in str(caught.value)


def test_a_text_in_an_old_encoding_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("video,label,start,end\nv,café,0,2\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"not UTF-8 text \(.* at byte 27; save it as UTF-8\)"):
        read_annotations(tmp_path / "a.csv")
