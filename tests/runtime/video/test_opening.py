"""Which files are opened as a video: single files, and playlists where they are allowed."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from media import write_levels

from tsm_runtime.errors import VideoError
from tsm_runtime.video.opening import FILE_FORMATS
from tsm_runtime.video.reader import VideoReader

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile {}\n"


def count(path: Path, *, allow: bool) -> int:
    with VideoReader(path, allow_playlists=allow) as reader:
        return sum(1 for _ in reader.frames())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "inner"
    (inner / "parts").mkdir(parents=True)
    write_levels(inner / "parts" / "a.ts", [(40, 1.0)])
    write_levels(tmp_path / "outside.ts", [(200, 1.0)])
    return inner


@pytest.mark.parametrize("name", ["x.m3u8", "x.mp4", "x.mkv"])
@pytest.mark.parametrize("kind", [HLS, CONCAT])
def test_a_playlist_is_refused_whatever_its_name(folder: Path, kind: str, name: str) -> None:
    path = folder / name
    path.write_text(kind.format("parts/a.ts"))
    with pytest.raises(
        VideoError, match=r"x\.\w+: a playlist, which names other files; allow .*--allow-play"
    ):
        count(path, allow=False)


def test_a_playlist_of_files_below_its_folder_can_be_allowed(folder: Path) -> None:
    for name, kind in (("x.m3u8", HLS), ("x.mp4", CONCAT)):
        (folder / name).write_text(kind.format("parts/a.ts"))
        assert count(folder / name, allow=True) == 25


@pytest.mark.parametrize("target", ["../outside.ts", "{outside}", "file:{outside}", "link.ts"])
def test_an_allowed_playlist_stays_below_its_folder(folder: Path, target: str) -> None:
    outside = folder.parent / "outside.ts"
    (folder / "link.ts").symlink_to(outside)
    (folder / "x.m3u8").write_text(HLS.format(target.format(outside=outside)))
    with pytest.raises(VideoError, match=r"lies outside of the playlist's folder"):
        count(folder / "x.m3u8", allow=True)
    if target != "link.ts":  # FFmpeg's own rule for concat lists: relative, and no ".."
        (folder / "y.mp4").write_text(CONCAT.format(target.format(outside=outside)))
        with pytest.raises(VideoError, match="not a readable video"):
            count(folder / "y.mp4", allow=True)


def test_the_allowed_formats_open_no_other_files() -> None:
    known = {name for entry in av.formats_available for name in entry.split(",")}
    assert set(FILE_FORMATS) <= known
    naming_others = {
        "hls",
        "concat",
        "dash",
        "image2",
        "imf",
        "sdp",
        "rtsp",
        "vobsub",
        "lavfi",
        "webm_dash_manifest",
    }
    assert not naming_others & set(FILE_FORMATS)
    assert len(FILE_FORMATS) == len(set(FILE_FORMATS))
