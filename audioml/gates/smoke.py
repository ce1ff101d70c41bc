"""A real server of the challenger starts, says that it is ready, answers clips, and refuses what is none."""

from __future__ import annotations

from typing import Annotated

import httpx
from pydantic import Field

from audioml.gates._evidence import Evidence, Verdict
from audioml.params import Section

TIMEOUT_S = 60.0


class Params(Section):
    """How long it is tried."""

    clips: Annotated[int, Field(ge=1)] = 20
    """Test clips that it answers."""


def check(params: Params, evidence: Evidence) -> Verdict:
    """Try the server as a user would."""
    test, clips = evidence.read_clips(params.clips)
    with evidence.serve() as url, httpx.Client(base_url=url, timeout=TIMEOUT_S) as client:
        ready = client.get("/health/ready")
        if ready.status_code != httpx.codes.OK:
            return Verdict(False, f"The server is not ready: {ready.text}")
        for clip_id, audio in zip(test["clip_id"], clips, strict=True):
            answer = client.post("/predict", content=audio)
            if answer.status_code != httpx.codes.OK:
                said = f"{answer.status_code}: {answer.text}"
                return Verdict(False, f"The server answers clip {clip_id[:12]} with {said}")
            named = answer.json()["model"]["version"]
            if named != evidence.challenger.version:
                return Verdict(False, f"Version {named} answers in place of version {evidence.challenger.version}.")
        refused = client.post("/predict", content=b"no audio at all")
        if not httpx.codes.is_client_error(refused.status_code):
            return Verdict(False, f"The server answers what is no audio with {refused.status_code}, not a refusal.")
        if (page := client.get("/")).status_code != httpx.codes.OK:
            return Verdict(False, f"The server's page answers with {page.status_code}.")
    return Verdict(True, f"A server starts, answers {len(clips)} test clips and refuses what is no audio.")
