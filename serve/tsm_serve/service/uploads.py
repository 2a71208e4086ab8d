"""Posted videos: an upload, as a form or as the body itself, or the path of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from starlette.datastructures import UploadFile
from starlette.requests import Request

from tsm_runtime.errors import TsmError, UsageError
from tsm_serve.service.options import ServiceOptions

_CHUNK = 1 << 20


class TooLargeError(TsmError):
    """The upload is larger than allowed."""


class JobRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Fields of a job beside the video."""

    path: str | None = None
    model: str | None = None
    id: str | None = None
    start: float = 0.0
    end: float | None = None
    min_score: float = 0.0


@dataclass(frozen=True, slots=True)
class Posted:
    """A posted video and the fields of its job."""

    path: Path
    is_upload: bool
    request: JobRequest
    name: str


async def read_posted(request: Request, folder: Path, options: ServiceOptions) -> Posted:
    """Return the posted video; an upload is written into `folder`.

    Raises:
        UsageError: the request is faulty.
        ForbiddenError: the path is not allowed.
        TooLargeError: the upload is.
    """
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > options.upload_bytes:
        raise TooLargeError(_too_large(options))
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return _named(await _small_body(request), options)
    if kind == "multipart/form-data":
        return await _form(request, folder, options)
    fields = _request(dict(request.query_params))
    name = request.query_params.get("name", "upload")
    target = folder / _file_name(name)
    await _store(request.stream(), target, options)
    return Posted(target, True, fields, name)


async def _form(request: Request, folder: Path, options: ServiceOptions) -> Posted:
    async with request.form() as form:
        values = {key: value for key, value in form.items() if isinstance(value, str)}
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if len(files) != 1:
            raise UsageError(f"expected one file in the form, got {len(files)}")
        name = files[0].filename or "upload"
        target = folder / _file_name(name)
        await _store(_chunks(files[0]), target, options)
        return Posted(target, True, _request(values), name)


def _named(body: bytes, options: ServiceOptions) -> Posted:
    try:
        fields = msgspec.json.decode(body, type=JobRequest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the request's body: {error}") from error
    if not fields.path:
        raise UsageError('the request\'s body: expected "path", or an upload')
    path = options.allowed_path(fields.path)
    return Posted(path, False, fields, path.name)


def _request(values: dict[str, Any]) -> JobRequest:
    known = {key: value for key, value in values.items() if key not in ("name", "token")}
    try:
        return msgspec.convert(known, JobRequest, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"the request's fields: {error}") from error


def _file_name(name: str) -> str:
    """Return a safe name with the client's suffix, by which FFmpeg recognises raw formats."""
    suffix = PurePosixPath(name.replace("\\", "/")).suffix.lower()
    return f"video{suffix}" if suffix.isascii() and suffix[1:].isalnum() and len(suffix) < 8 else "video"


async def _store(parts: AsyncIterator[bytes], target: Path, options: ServiceOptions) -> None:
    size = 0
    with target.open("xb") as file:
        async for part in parts:
            size += len(part)
            if size > options.upload_bytes:
                raise TooLargeError(_too_large(options))
            file.write(part)
    if not size:
        raise UsageError("the upload is empty")


async def _chunks(upload: UploadFile) -> AsyncIterator[bytes]:
    while part := await upload.read(_CHUNK):
        yield part


async def _small_body(request: Request) -> bytes:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > _CHUNK:
            raise UsageError("the request's body is too large")
    return bytes(data)


def _too_large(options: ServiceOptions) -> str:
    return f"the upload is larger than {options.upload_bytes} bytes"
