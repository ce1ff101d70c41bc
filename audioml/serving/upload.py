"""The audio of a request: a multipart form's file, or the raw body; never more than the limit in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import Request

MULTIPART = "multipart/form-data"
FORM_FIELDS = ("file", "audio")
FORM_OVERHEAD_BYTES = 4096
"""Boundaries and headers of a form around the file."""


class UploadError(Exception):
    """A request that holds no audio that could be looked at; `status` is what HTTP calls it."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail


async def read_upload(request: Request, max_bytes: int) -> bytes:
    """Return the bytes of the audio in a request.

    Raises
    ------
    UploadError
        413 when it is larger than `max_bytes`; 400 when the form is damaged, has several files, or the upload
        breaks off; 422 when there is no file in it.
    """
    from starlette.requests import ClientDisconnect

    try:
        if request.headers.get("content-type", "").lower().startswith(MULTIPART):
            audio = await _read_form(request, max_bytes)
        else:
            audio = b"".join([chunk async for chunk in _limited(request, max_bytes)])
    except ClientDisconnect:
        raise UploadError(400, "disconnected", "The connection ended before the upload did.") from None
    if len(audio) > max_bytes:
        raise _too_large(max_bytes)
    return audio


async def _read_form(request: Request, max_bytes: int) -> bytes:
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    stream = _limited(request, max_bytes, FORM_OVERHEAD_BYTES)
    try:
        form = await MultiPartParser(request.headers, stream, max_files=1, max_fields=8).parse()
    except MultiPartException as error:
        raise UploadError(400, "bad_form", f"The form cannot be read: {error.message}") from None
    except KeyError:
        raise UploadError(400, "bad_form", "The form's content type has no boundary.") from None
    try:
        for field in FORM_FIELDS:
            value = form.get(field)
            if isinstance(value, UploadFile):
                return await value.read()
            if value is not None:
                detail = f"The form field {field!r} is text. Send a file: curl -F {field}=@clip.wav"
                raise UploadError(422, "no_file", detail)
    finally:
        await form.close()
    names = ", ".join(sorted(form)) or "none"
    raise UploadError(422, "no_file", f"The form has no field 'file' (its fields: {names}). curl -F file=@clip.wav")


async def _limited(request: Request, max_bytes: int, overhead: int = 0) -> AsyncGenerator[bytes, None]:
    """Yield the body until it is larger than allowed; a stated length is believed without reading."""
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > max_bytes + overhead:
        raise _too_large(max_bytes)
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > max_bytes + overhead:
            raise _too_large(max_bytes)
        yield chunk


def _too_large(max_bytes: int) -> UploadError:
    return UploadError(413, "too_large", f"The upload is larger than {max_bytes / 1e6:g} MB, the limit of this server.")
