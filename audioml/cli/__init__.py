"""The commands, a module a theme. Each parses its options, calls one function of a lower layer, and prints its answer.

Nothing heavy is imported until a command needs it: `audioml --help` stays quick.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

import audioml
from audioml.cli import (
    lineage,
    models,
    monitoring,
    params,
    pipeline,
    serving,
    speakers,
    stack,
    tokens,
    tuning,
    workspace,
)
from audioml.cli._output import err, out
from audioml.errors import IO_ERROR, SERVICE_ERROR, SOFTWARE_ERROR, USER_ERROR, AudiomlError, ServiceError

app = typer.Typer(
    help="Audio in, served and monitored models out.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    workspace.init,
    pipeline.run,
    pipeline.plan,
    pipeline.describe,
    pipeline.record,
    params.params,
    tuning.tune,
    workspace.render,
    workspace.check,
    workspace.compact,
    stack.up,
    stack.down,
    stack.status,
    stack.demo,
    serving.predict,
    serving.serve,
    monitoring.monitor,
    monitoring.feedback,
    lineage.lineage,
    lineage.forget,
):
    app.command()(command)
# All that follows the name of Airflow's command belongs to it.
app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})(stack.airflow)
app.add_typer(params.runs_app, name="runs")
app.add_typer(models.app, name="models")
app.add_typer(speakers.app, name="speakers")
app.add_typer(tokens.app, name="tokens")

_WRONG_PATH = (IsADirectoryError, NotADirectoryError, PermissionError)
"""Wrong the next time too. A file that is missing may come back with its disk."""


def main() -> None:
    """Run the command line; an error that is foreseen ends it with its message, not with a traceback.

    The exit status tells whether trying again may help; they are in `audioml.errors`. Wrong options end with 2.
    """
    try:
        app()
    except AudiomlError as error:
        _end(str(error), SERVICE_ERROR if isinstance(error, ServiceError) else USER_ERROR)
    except OSError as error:
        _end(_describe(error), USER_ERROR if isinstance(error, _WRONG_PATH) else IO_ERROR)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # noqa: BLE001, it is shown whole; only the exit status is ours
        traceback.print_exc()
        sys.exit(SOFTWARE_ERROR)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        out.print(audioml.__version__)
        raise typer.Exit


def _end(message: str, status: int) -> None:
    err.print("[bold red]Error[/]", end=" ")
    err.print(message, markup=False, soft_wrap=True)
    sys.exit(status)


def _describe(error: OSError) -> str:
    """Return one line: which file, and what the system says of it."""
    text = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {text}" if error.filename else text
