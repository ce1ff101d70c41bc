"""Which failures are tried again: those of the machine, with backoff; never those of the input."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.exceptions import AirflowException

from audioml.errors import USER_ERROR
from audioml.orchestration.child import ChildError
from audioml.params import AirflowParams

BACKOFF = 2.0
"""Factor from one delay to the next."""
MAX_DELAY = timedelta(minutes=10)


class BadInput(AirflowException):  # type: ignore[misc]
    """Wrong params, bad data, or another error that the same command would only repeat."""


class MachineFault(AirflowException):  # type: ignore[misc]
    """An I/O error, a service that is not there, a killed process: the same command may well succeed."""


POLICY = ExceptionRetryPolicy(
    [
        RetryRule(BadInput, RetryAction.FAIL, reason="bad input is not tried again"),
        RetryRule(MachineFault, RetryAction.RETRY, reason="a fault of the machine is tried again, later each time"),
    ]
)


def failure_of(error: ChildError, what: str) -> AirflowException:
    """Return what an Airflow task raises for the failure of its child."""
    kind = BadInput if error.exit_status == USER_ERROR else MachineFault
    return kind(f"{what}: {error}")


def retry_arguments(params: AirflowParams) -> dict[str, Any]:
    """Return the arguments of an operator that say when it is tried again."""
    return {
        "retries": params.retries,
        "retry_delay": timedelta(seconds=params.retry_delay_s),
        "retry_exponential_backoff": BACKOFF,
        "max_retry_delay": max(MAX_DELAY, timedelta(seconds=params.retry_delay_s)),
        "retry_policy": POLICY,
    }
