"""A small client of Airflow's REST API, version 2."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx

from audioml.errors import ServiceError

POLL_INTERVAL_S = 0.25
REQUEST_TIMEOUT_S = 60.0
WARM_UP_TIMEOUT_S = 0.5
"""Enough for the request to arrive; the server goes on with it alone."""
PAGE_SIZE = 100
HIDDEN_GROUPS = ("::group::Log message source details", "::group::Pre Execute")
FINISHED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


@dataclass(frozen=True)
class AirflowTask:
    """State of one Airflow task (a task instance) of a DAG run."""

    task_id: str
    map_index: int
    """Position among mapped Airflow tasks; -1 for one that is not mapped, or not yet."""
    label: str
    """What the Airflow UI shows for it: the rendered map index, or its name."""
    state: str | None
    try_number: int
    start_s: float | None
    """Seconds since the epoch, as `end_s`."""
    end_s: float | None
    hostname: str | None = None
    """The machine, or the container, that does it."""

    @property
    def step(self) -> str:
        """Name of the step it belongs to."""
        return self.task_id.partition(".")[0]

    @property
    def part(self) -> str:
        """Which part of the step: run, plan, work, collect or record."""
        return self.task_id.partition(".")[2]


class AirflowClient:
    """Talks to the API server as one user. Use as a context manager.

    Parameters
    ----------
    url : str
        Address of the API server, such as ``http://127.0.0.1:8080``.
    username, password : str
        The login; a token is fetched with the first request, and anew when it has run out.
    transport : httpx.BaseTransport, optional
        Takes the requests instead of the network, such as `httpx.MockTransport`.
    """

    def __init__(self, url: str, username: str, password: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url
        self._login = {"username": username, "password": password}
        self._http = httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_S, trust_env=False, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def health(self) -> dict[str, Any] | None:
        """Return the health of Airflow's parts, or None while the API server does not answer."""
        try:
            response = self._http.get("/api/v2/monitor/health", timeout=5.0)
        except httpx.TransportError:
            return None
        return dict(response.json()) if response.status_code == httpx.codes.OK else None

    def warm_up(self) -> None:
        """Have the API server build what Airflow tasks talk to: some seconds, else paid by the first of them."""
        with suppress(httpx.TransportError):
            self._http.get("/execution/health/ping", timeout=WARM_UP_TIMEOUT_S)

    def import_errors(self) -> list[str]:
        """Return the errors of DAG files, as Airflow shows them."""
        answer = self._request("GET", "/api/v2/importErrors", params={"limit": PAGE_SIZE})
        return [f"{e['filename']}: {e['stack_trace'].strip()}" for e in answer["import_errors"]]

    def wait_for_dag(self, dag_id: str, timeout_s: float = 60.0) -> None:
        """Wait until Airflow has read a DAG.

        Raises
        ------
        ServiceError
            When it is not there in time; with the import errors of DAG files, if there are any.
        """

        def known() -> bool:
            if self._exists(f"/api/v2/dags/{dag_id}"):
                return True
            if errors := self.import_errors():
                raise ServiceError("Airflow cannot read the DAG file. " + "\n".join(errors))
            return False

        if not _poll(known, timeout_s):
            raise ServiceError(f"Airflow has no DAG {dag_id!r} after {timeout_s:.0f} s. See the dag-processor's log.")

    def unpause(self, dag_id: str) -> None:
        """Let a DAG's runs start."""
        self._request("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def pause(self, dag_id: str) -> None:
        """Keep a DAG from running; what runs of it stops where it is."""
        self._request("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": True})

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG as the API tells of them, `dag_run_id`, `run_type` and `state` among it."""
        options = {"limit": PAGE_SIZE, "order_by": "id"}
        return list(self._request("GET", f"/api/v2/dags/{dag_id}/dagRuns", params=options)["dag_runs"])

    def backfill(self, dag_id: str, from_date: str, to_date: str, *, reprocess: str = "none") -> None:
        """Start runs for a range of dates, as the dialog of a DAG's page does; ISO 8601, both ends included.

        `reprocess` says which runs are done again: none, failed or completed.
        """
        body = {"dag_id": dag_id, "from_date": from_date, "to_date": to_date, "reprocess_behavior": reprocess}
        self._request("POST", "/api/v2/backfills", json=body)

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run of a DAG; return the run's id."""
        body = {"logical_date": None, "conf": conf or {}}
        return str(self._request("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run: queued, running, success or failed."""
        return str(self._request("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def wait_for_run(self, dag_id: str, run_id: str, timeout_s: float) -> str:
        """Wait until a run has ended; return its state.

        Raises
        ------
        ServiceError
            When it has not ended in time.
        """
        if not _poll(lambda: self.run_state(dag_id, run_id) in FINISHED, timeout_s):
            raise ServiceError(f"The run {run_id} of {dag_id} has not ended after {timeout_s:.0f} s.")
        return self.run_state(dag_id, run_id)

    def task_instances(self, dag_id: str, run_id: str) -> list[AirflowTask]:
        """Return all Airflow tasks of a run, mapped ones each."""
        found: list[AirflowTask] = []
        while True:
            page = self._request(
                "GET",
                f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances",
                params={"limit": PAGE_SIZE, "offset": len(found), "order_by": "id"},
            )
            found += [_parse_task(t) for t in page["task_instances"]]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                return found

    def reason(self, dag_id: str, run_id: str, task_id: str) -> str | None:
        """Return why an Airflow task ran or was skipped, as it said in its XCom `reason`."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/reason"
        return str(self._request("GET", path)["value"]) if self._exists(path) else None

    def log_tail(self, dag_id: str, run_id: str, task: AirflowTask, lines: int = 30) -> str:
        """Return the last lines of the log of an Airflow task's last try."""
        answer = self._request(
            "GET",
            f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task.task_id}/logs/{task.try_number}",
            params={"map_index": task.map_index, "full_content": True},
        )
        return "\n".join(_log_lines(answer["content"])[-lines:])

    def question(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return what an Airflow task asks a person: subject, body, options, and the answer once there is one."""
        return self._request("GET", _question_path(dag_id, run_id, task_id))

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str) -> None:
        """Answer what an Airflow task asks, such as ``Approve`` or ``Reject``, as the user of this client."""
        body = {"chosen_options": [option], "params_input": {}}
        self._request("PATCH", _question_path(dag_id, run_id, task_id), json=body)

    def _exists(self, path: str) -> bool:
        response = self._send("GET", path)
        if response.status_code == httpx.codes.NOT_FOUND:
            return False
        self._check(response)
        return True

    def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        response = self._send(method, path, **options)
        self._check(response)
        answer: dict[str, Any] = response.json()
        return answer

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            if "Authorization" not in self._http.headers:
                self._fetch_token()
            response = self._http.request(method, path, **options)
            if response.status_code == httpx.codes.UNAUTHORIZED:
                self._fetch_token()
                response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise ServiceError(f"Airflow at {self.url} does not answer ({error}). Start it with: audioml up") from None
        return response

    def _fetch_token(self) -> None:
        response = self._http.post("/auth/token", json=self._login)
        self._check(response)
        self._http.headers["Authorization"] = f"Bearer {response.json()['access_token']}"

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        request = response.request
        raise ServiceError(
            f"Airflow at {self.url} answered {response.status_code} to {request.method} {request.url.path}: "
            f"{response.text[:500]}"
        )


def _question_path(dag_id: str, run_id: str, task_id: str) -> str:
    return f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"


def _parse_task(task: dict[str, Any]) -> AirflowTask:
    return AirflowTask(
        task_id=task["task_id"],
        map_index=task["map_index"],
        label=task["rendered_map_index"] or task["task_id"],
        state=task["state"],
        try_number=task["try_number"],
        start_s=_seconds(task["start_date"]),
        end_s=_seconds(task["end_date"]),
        hostname=task.get("hostname") or None,
    )


def _seconds(date: str | None) -> float | None:
    return datetime.fromisoformat(date).timestamp() if date else None


def _log_lines(content: str | list[Any]) -> list[str]:
    """Return the lines of a log without Airflow's own preparations, and with the messages of errors."""
    if isinstance(content, str):
        return content.splitlines()
    lines: list[str] = []
    hidden = False
    for entry in content:
        event = entry if isinstance(entry, str) else entry["event"]
        if event.startswith("::"):
            hidden = event in HIDDEN_GROUPS
        elif not hidden:
            lines += event.splitlines()
            details = [] if isinstance(entry, str) else entry.get("error_detail") or []
            lines += [line for detail in details for line in detail["exc_value"].splitlines()]
    return lines


def _poll(check: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL_S)
    return True
