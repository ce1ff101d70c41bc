"""What a server says when it does not answer: one word for programs, one sentence for people, nothing of its inside."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from fastapi.responses import JSONResponse

REQUEST_ID = "X-Request-ID"
STATUSES = {
    400: "The request is damaged.",
    401: "No valid access token came with the request.",
    408: "The request did not arrive in time.",
    413: "The upload is larger than this server takes.",
    415: "The request's content type is not taken here.",
    422: "What came is no audio that can be read.",
    500: "The server failed.",
    503: "The server has more to do than it can; Retry-After says when to come back.",
    504: "The answer took longer than this server's time limit.",
}
"""Of refusals, and what they mean."""


class Refused(BaseModel):
    """The body of every answer that is none."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    reason: str = Field(examples=["unreadable"])
    """One word."""
    detail: str
    """One sentence or two for people."""
    request_id: str
    """By which the server's log knows the request."""


class RefusalError(Exception):
    """A request that gets no answer.

    Parameters
    ----------
    status
        What HTTP calls it.
    reason, detail
        As in `Refused`.
    retry_after_s
        Given: when to come back, in seconds.
    """

    def __init__(self, status: int, reason: str, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.status, self.reason, self.detail, self.retry_after_s = status, reason, detail, retry_after_s

    def response(self, request_id: str) -> JSONResponse:
        """Return the answer that says so."""
        from fastapi.responses import JSONResponse

        headers: dict[str, str] = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        content = {"reason": self.reason, "detail": self.detail, "request_id": request_id}
        return JSONResponse(content, status_code=self.status, headers=headers)


def describe_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of these statuses."""
    retry = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return {
        status: {"model": Refused, "description": STATUSES[status], **({"headers": retry} if status == 503 else {})}
        for status in statuses
    }
