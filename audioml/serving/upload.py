"""The audio of a request: a multipart form's files, or the raw body; never more than the limit in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, NamedTuple

from audioml.serving.problems import RefusalError

if TYPE_CHECKING:
    from fastapi import Request

MULTIPART = "multipart/form-data"
FORM_FIELDS = ("file", "audio")
FORM_OVERHEAD_BYTES = 4096
"""Boundaries and headers of a form around the files."""
MAX_FIELDS = 8
"""Of a form, files aside."""


class Upload(NamedTuple):
    """One audio file of a request."""

    name: str | None
    """As the form has it; None for a raw body."""
    audio: bytes


async def read_uploads(request: Request, max_bytes: int, max_files: int = 1) -> list[Upload]:
    """Return the audio files of a request, at least one, in order.

    Raises
    ------
    RefusalError
        413 when they are larger than `max_bytes` together, or more than `max_files`; 400 when the form is damaged or
        the upload breaks off; 422 when there is no file in it.
    """
    from starlette.requests import ClientDisconnect

    try:
        if request.headers.get("content-type", "").lower().startswith(MULTIPART):
            return await _read_form(request, max_bytes, max_files)
        return [Upload(None, await read_body(request, max_bytes))]
    except ClientDisconnect:
        raise RefusalError(400, "disconnected", "The connection ended before the upload did.") from None


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Return the body of a request. Raises RefusalError, 413, when it is larger than `max_bytes`."""
    return b"".join([chunk async for chunk in _limited(request, max_bytes)])


async def _read_form(request: Request, max_bytes: int, max_files: int) -> list[Upload]:
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    stream = _limited(request, max_bytes, FORM_OVERHEAD_BYTES * max_files)
    try:
        # One more than is taken, so that too many are called that.
        form = await MultiPartParser(request.headers, stream, max_files=max_files + 1, max_fields=MAX_FIELDS).parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise _too_many(max_files) from None
        raise RefusalError(400, "bad_form", f"The form cannot be read: {error.message}") from None
    except KeyError:
        raise RefusalError(400, "bad_form", "The form's content type has no boundary.") from None
    try:
        uploads: list[Upload] = []
        for field, value in form.multi_items():
            if field not in FORM_FIELDS:
                continue
            if not isinstance(value, UploadFile):
                raise RefusalError(
                    422, "no_file", f"The form field {field!r} is text. Send a file: curl -F {field}=@clip.wav"
                )
            uploads.append(Upload(value.filename or "", await value.read()))
        names = ", ".join(sorted(form)) or "none"
    finally:
        await form.close()
    if not uploads:
        raise RefusalError(
            422, "no_file", f"The form has no field 'file' (its fields: {names}). curl -F file=@clip.wav"
        )
    if len(uploads) > max_files:
        raise _too_many(max_files)
    if sum(len(upload.audio) for upload in uploads) > max_bytes:
        raise _too_large(max_bytes)
    return uploads


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


def _too_large(max_bytes: int) -> RefusalError:
    return RefusalError(
        413, "too_large", f"The upload is larger than {max_bytes / 1e6:g} MB, the limit of this server."
    )


def _too_many(max_files: int) -> RefusalError:
    return RefusalError(413, "too_many_files", f"The form has more than {max_files} file(s), the limit of this server.")
