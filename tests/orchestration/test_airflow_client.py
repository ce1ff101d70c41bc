import json

import httpx
import pytest

from audioml.errors import ServiceError
from audioml.orchestration.airflow_client import AirflowClient, AirflowTask

PREFIX = "/api/v2"
TASK = AirflowTask("train.run", -1, "train.run", "failed", 2, None, None)


def client(answers):
    """A client of a fake Airflow; `answers` maps (method, path) to a response or a function of the request."""

    def handle(request):
        if request.url.path == "/auth/token":
            assert json.loads(request.content) == {"username": "admin", "password": "secret"}
            return httpx.Response(201, json={"access_token": "token"})
        answer = answers[request.method, request.url.path.removeprefix(PREFIX)]
        return answer(request) if callable(answer) else answer

    return AirflowClient("http://airflow", "admin", "secret", transport=httpx.MockTransport(handle))


def test_a_new_token_is_fetched_when_the_old_one_has_run_out():
    seen = []

    def answer(request):
        seen.append(request.headers["Authorization"])
        return httpx.Response(401 if len(seen) == 1 else 200, json={"state": "running"})

    with client({("GET", "/dags/d/dagRuns/r"): answer}) as airflow:
        assert airflow.run_state("d", "r") == "running"
    assert seen == ["Bearer token"] * 2


def test_import_errors_end_the_wait_for_a_dag():
    errors = {"import_errors": [{"filename": "audioml_dags.py", "stack_trace": "unknown key 'sed'\n"}]}
    answers = {
        ("GET", "/dags/d"): httpx.Response(404, json={}),
        ("GET", "/importErrors"): httpx.Response(200, json=errors),
    }
    with client(answers) as airflow, pytest.raises(ServiceError, match=r"audioml_dags\.py: unknown key 'sed'$"):
        airflow.wait_for_dag("d")


def test_a_dag_that_does_not_come_is_an_error():
    answers = {
        ("GET", "/dags/d"): httpx.Response(404, json={}),
        ("GET", "/importErrors"): httpx.Response(200, json={"import_errors": []}),
    }
    with client(answers) as airflow, pytest.raises(ServiceError, match="has no DAG 'd'"):
        airflow.wait_for_dag("d", timeout_s=0.0)


def test_tasks_of_all_pages():
    entries = [
        {
            "task_id": "ingest.work",
            "map_index": i,
            "rendered_map_index": f"{i} clips" if i else None,
            "state": "success",
            "try_number": 1,
            "start_date": "2026-01-01T00:00:00Z",
            "end_date": None,
        }
        for i in range(250)
    ]

    def page(request):
        offset, limit = (int(request.url.params[k]) for k in ("offset", "limit"))
        return httpx.Response(
            200, json={"task_instances": entries[offset : offset + limit], "total_entries": len(entries)}
        )

    with client({("GET", "/dags/d/dagRuns/r/taskInstances"): page}) as airflow:
        tasks = airflow.task_instances("d", "r")
    assert [t.map_index for t in tasks] == list(range(250))
    assert (tasks[0].label, tasks[1].label) == ("ingest.work", "1 clips")
    assert (tasks[0].step, tasks[0].part) == ("ingest", "work")
    assert tasks[0].start_s == 1767225600.0


def test_log_tail_hides_preparations_and_shows_errors():
    content = [
        {"event": "::group::Log message source details"},
        {"event": "/logs/1.log"},
        {"event": "::endgroup::"},
        {"event": "::group::Pre Execute"},
        {"event": "Filling up the DagBag"},
        {"event": "::endgroup::"},
        {"event": "epoch 1"},
        {"event": "Task failed", "error_detail": [{"exc_type": "E", "exc_value": "no clips"}]},
    ]
    path = "/dags/d/dagRuns/r/taskInstances/train.run/logs/2"
    with client({("GET", path): httpx.Response(200, json={"content": content})}) as airflow:
        assert airflow.log_tail("d", "r", TASK) == "epoch 1\nTask failed\nno clips"
        assert airflow.log_tail("d", "r", TASK, lines=1) == "no clips"


def test_an_answer_that_is_an_error_names_the_request():
    with (
        client({("PATCH", "/dags/d"): httpx.Response(403, text="Forbidden")}) as airflow,
        pytest.raises(ServiceError, match=r"answered 403 to PATCH /api/v2/dags/d: Forbidden"),
    ):
        airflow.unpause("d")


def test_no_answer_says_how_to_start():
    def refuse(request):
        raise httpx.ConnectError("refused")

    airflow = AirflowClient("http://airflow", "a", "b", transport=httpx.MockTransport(refuse))
    assert airflow.health() is None
    with pytest.raises(ServiceError, match="audioml up"):
        airflow.run_state("d", "r")
