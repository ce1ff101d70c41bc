"""What a failure of the network means: a wrong address, no permission, a service that is away, or one bad object."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any

from audioml.errors import AudiomlError, ParamsError, ServiceError, SourceError

CREDENTIAL_CODES = frozenset(
    {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed", "SignatureDoesNotMatch"}
)
"""S3's error codes that no object of the source escapes."""
CREDENTIAL_ERRORS = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "ProfileNotFound",
        "TokenRetrievalError",
    }
)
"""Exceptions of botocore. They have no status or code to tell them by."""
AWAY = frozenset(
    {
        errno.EBUSY, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE,
        errno.ENETUNREACH, errno.EHOSTUNREACH,
    }
)  # fmt: skip
"""s3fs gives a 503 as EBUSY and a 500 as EREMOTEIO."""
HINTS = {
    "s3": "S3 takes them from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, from AWS_PROFILE, or from the machine's "
    "role; for a public bucket set data.storage_options: {anon: true}.",
    "http": "http takes them from ~/.netrc.",
}


class Kind(Enum):
    """What failed."""

    MISSING = auto()
    FORBIDDEN = auto()
    CREDENTIALS = auto()
    """Nothing of the source can be read with these."""
    AWAY = auto()
    """Trying again later may help."""
    DISK_FULL = auto()
    """This machine's."""
    OTHER = auto()


def network_errors() -> tuple[type[Exception], ...]:
    """Return what reading from the network raises on purpose, of the libraries that are loaded."""
    import aiohttp

    known: list[type[Exception]] = [OSError, TimeoutError, aiohttp.ClientError]
    if "botocore.exceptions" in sys.modules:
        exceptions = sys.modules["botocore.exceptions"]
        known += [exceptions.BotoCoreError, exceptions.ClientError]
    return tuple(known)


@contextmanager
def explain_failures(address: str) -> Iterator[None]:
    """Turn failures of the network into a SourceError or a ServiceError that names the address.

    Raises
    ------
    SourceError
        When it does not exist, or may not be read.
    ServiceError
        When nothing answers.
    ParamsError
        When `data.storage_options` has what the file system does not take.
    """
    try:
        yield
    except network_errors() as error:
        raise typed_error(address, error) from error
    except TypeError as error:
        raise ParamsError(
            f"data.storage_options do not suit {address}: {error}. Correct them in params.yaml."
        ) from error


@contextmanager
def explain_object_failures(address: str, place: str, answers: Callable[[str], bool]) -> Iterator[None]:
    """Turn the failure of one object into an OSError, unless it is the source as a whole that fails.

    Parameters
    ----------
    address
        Of the source.
    place
        Of the object.
    answers
        Whether anything answers where the object lies: asked when the object seems to be away.

    Raises
    ------
    OSError
        With a `strerror`; FileNotFoundError when the object is gone.
    SourceError, ServiceError
        As `explain_failures`.
    """
    try:
        yield
    except network_errors() as error:
        kind, detail = diagnose(error)
        if kind in (Kind.CREDENTIALS, Kind.DISK_FULL) or (kind is Kind.AWAY and not answers(place)):
            raise typed_error(address, error) from error
        number = {Kind.MISSING: errno.ENOENT, Kind.FORBIDDEN: errno.EACCES}.get(kind, errno.EIO)
        raise OSError(number, detail, place) from error


def diagnose(error: Exception) -> tuple[Kind, str]:
    """Return what failed, and the words of whoever noticed first."""
    root: Any = error
    # fsspec reports any failure of an HTTP request as a missing file, s3fs its codes as kinds of OSError.
    while isinstance(root.__cause__, network_errors()):
        root = root.__cause__
    detail = str(root) or type(root).__name__
    response = getattr(root, "response", None)
    if isinstance(response, dict):
        code = str(response.get("Error", {}).get("Code", ""))
        detail = f"{code}: {response.get('Error', {}).get('Message', '')}".strip(": ")
        if code in CREDENTIAL_CODES:
            return Kind.CREDENTIALS, detail
        return _kind_of_os_error(error), detail
    if isinstance(status := getattr(root, "status", None), int):
        return _kind_of_status(status), f"{status} {getattr(root, 'message', '')}".strip()
    if type(root).__name__ in CREDENTIAL_ERRORS:
        return Kind.CREDENTIALS, detail
    if isinstance(root, OSError):
        return _kind_of_os_error(root), root.strerror or detail
    return _kind_of_library_error(root), detail


def typed_error(address: str, error: Exception) -> AudiomlError:
    """Return the error that says what to do."""
    kind, detail = diagnose(error)
    hint = HINTS.get(address.partition("://")[0].replace("https", "http"), "The environment must hold them.")
    if kind is Kind.MISSING:
        return SourceError(f"The source {address} does not exist ({detail}). Correct data.source in params.yaml.")
    if kind in (Kind.FORBIDDEN, Kind.CREDENTIALS):
        return SourceError(f"The source {address} may not be read ({detail}). It needs other credentials. {hint}")
    if kind is Kind.AWAY:
        return ServiceError(
            f"The source {address} does not answer ({detail}). Try again; if it stays so, correct data.source or "
            "data.storage_options in params.yaml."
        )
    if kind is Kind.DISK_FULL:
        return ServiceError(
            f"No room to copy a file of {address} to this machine ({detail}). Make room, or set TMPDIR to another disk."
        )
    return SourceError(
        f"The source {address} cannot be read: {detail}. Correct data.source or data.storage_options in params.yaml."
    )


def _kind_of_status(status: int) -> Kind:
    if status in (404, 410):
        return Kind.MISSING
    if status in (401, 403, 407):
        return Kind.FORBIDDEN
    return Kind.AWAY if status in (408, 429) or status >= 500 else Kind.OTHER


def _kind_of_os_error(error: Exception) -> Kind:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Kind.MISSING
    if isinstance(error, PermissionError):
        return Kind.FORBIDDEN
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return Kind.DISK_FULL
    return Kind.AWAY if isinstance(error, ConnectionError | TimeoutError) or number in AWAY else Kind.OTHER


def _kind_of_library_error(error: Exception) -> Kind:
    import aiohttp

    away: tuple[type[Exception], ...] = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)
    if "botocore.exceptions" in sys.modules:
        exceptions = sys.modules["botocore.exceptions"]
        away += (exceptions.ConnectionError, exceptions.HTTPClientError)
    return Kind.AWAY if isinstance(error, away) else Kind.OTHER
