"""Bundles at an address: a Hugging Face repository, or a zip file behind https, whose hash is pinned."""

from __future__ import annotations

import hashlib
import io
import os
import re
import urllib.error
import urllib.request
import zipfile
from pathlib import Path, PurePosixPath

from tsm_runtime.bundle.manifest import MANIFEST
from tsm_runtime.errors import BundleError
from tsm_runtime.files import whole_folder
from tsm_runtime.wording import first_line

_HUB = re.compile(r"hf:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_ARCHIVE = re.compile(r"(?P<address>https?:/+.+?)(?:#sha256=(?P<sha256>[0-9a-fA-F]{64}))?")
_MOST_BYTES = 4 << 30
_TIMEOUT_SECONDS = 60


def is_address(given: Path) -> bool:
    """Return whether a model option names a repository or a web address instead of a folder."""
    return str(given).startswith(("hf:", "https:/", "http:/"))


def fetch_bundle(given: Path, cache: Path | None = None) -> Path:
    """Return the folder of a bundle at an address; what was fetched before is not fetched again.

    Args:
        given: `hf:ORGANISATION/NAME@REVISION` (extra `hub`), or `https://HOST/bundle.zip#sha256=HEX`. A
            path, as the command line has it: its doubled slash may have become one.
        cache: folder of fetched bundles; None: `tsm-tal/bundles` in the user's cache folder.

    Raises:
        BundleError: the address has another form, cannot be reached, has another hash, or holds no bundle.
    """
    cache = cache or _cache_folder()
    if match := _HUB.fullmatch(str(given)):
        return _from_hub(match["name"], match["revision"], cache)
    match = _ARCHIVE.fullmatch(str(given))
    if match is None:
        raise BundleError(
            f"{given}: expected hf:ORGANISATION/NAME@REVISION or https://HOST/FILE.zip#sha256=HEX"
        )
    address = re.sub(r":/+", "://", match["address"], count=1)
    if match["sha256"] is None:
        raise BundleError(
            f"{address}: its hash is not pinned; append #sha256= and the SHA-256 of the zip file"
        )
    return _from_archive(address, match["sha256"].lower(), cache)


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tsm-tal" / "bundles"


def _from_hub(name: str, revision: str | None, cache: Path) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as error:
        raise BundleError(f"hf:{name} needs huggingface_hub: pip install huggingface_hub") from error
    folder = cache / "hub" / name.replace("/", "--") / (revision or "main").replace("/", "--")
    endpoint = os.environ.get("HF_ENDPOINT")
    try:  # plain files below local_dir: the hub's own cache is made of links, which a bundle must not have
        snapshot_download(name, revision=revision, local_dir=folder, endpoint=endpoint)
    except Exception as error:  # the hub's client raises its own, httpx's and the system's
        raise BundleError(f"hf:{name}: cannot be fetched ({first_line(error)})") from error
    return _with_manifest(folder, f"hf:{name}")


def _from_archive(address: str, sha256: str, cache: Path) -> Path:
    target = cache / sha256
    if not target.is_dir():
        data = _download(address)
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise BundleError(f"{address}: its SHA-256 is {found}, {sha256} is pinned; nothing was loaded")
        cache.mkdir(parents=True, exist_ok=True)
        with whole_folder(target, marker=MANIFEST) as folder:
            _unpack(data, folder, address)
    return _with_manifest(target, address)


def _download(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as answer:  # the hash is checked
            data: bytes = answer.read(_MOST_BYTES + 1)
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise BundleError(f"{address}: cannot be fetched ({first_line(error)})") from error
    if len(data) > _MOST_BYTES:
        raise BundleError(f"{address}: more than {_MOST_BYTES >> 30} GiB")
    return data


def _unpack(data: bytes, folder: Path, address: str) -> None:
    """Write the archive's files, those of its one folder where it has one; names stay inside `folder`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if sum(entry.file_size for entry in entries) > _MOST_BYTES:
                raise BundleError(f"{address}: unpacks to more than {_MOST_BYTES >> 30} GiB")
            manifests = [entry for entry in entries if PurePosixPath(entry.filename).name == MANIFEST]
            root = PurePosixPath(manifests[0].filename).parent if len(manifests) == 1 else None
            for entry in entries:
                path = PurePosixPath(entry.filename)
                if root is None or path.parent != root:
                    raise BundleError(f"{address}: expected one folder with {MANIFEST}, got {entry.filename}")
                (folder / path.name).write_bytes(archive.read(entry))
    except (zipfile.BadZipFile, RuntimeError) as error:
        raise BundleError(f"{address}: not a readable zip file ({first_line(error)})") from error


def _with_manifest(folder: Path, address: str) -> Path:
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"{address}: holds no {MANIFEST}")
    return folder
