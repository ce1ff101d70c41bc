"""A notifier that sends mail by SMTP, with a subject and a text of audioml's own."""

from __future__ import annotations

from typing import Any

from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import Context

from audioml.orchestration.airflow.messages import html_of, subject_of


class MailNotifier(SmtpNotifier):  # type: ignore[misc]
    """Airflow's `SmtpNotifier`, which also says what failed in a missed deadline, where there is no Airflow task.

    The server and its login are Airflow's connection `smtp_default`, or the one that `smtp_conn_id` names.

    Parameters
    ----------
    workspace : str
        Named in the message; `audioml.orchestration.airflow.alerts` sets it.
    **options
        Of `SmtpNotifier`: to, from_email, cc, bcc, subject, html_content, smtp_conn_id, ... `subject` and
        `html_content` may be Jinja templates, and replace audioml's.
    """

    subject: str | None
    html_content: str | None

    def __init__(self, workspace: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.workspace = workspace

    def notify(self, context: Context) -> None:
        """Send what the context of an Airflow task says."""
        self._compose(context)
        super().notify(context)

    async def async_notify(self, context: Context) -> None:
        """Send what the context of a missed deadline says; runs in the triggerer."""
        self._compose(context)
        await super().async_notify(context)

    def _compose(self, context: Context) -> None:
        # After templates were rendered: an error message with braces in it stays as it is.
        self.subject = self.subject or subject_of(self.workspace, context)
        self.html_content = self.html_content or html_of(self.workspace, context)
