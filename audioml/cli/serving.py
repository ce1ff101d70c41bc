"""Commands that answer with a registered model: predict, serve."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audioml.cli._options import AsJson, Jobs, ModelRef, TokensFile, Workspace
from audioml.cli._output import out, print_json, print_table
from audioml.errors import ParamsError
from audioml.labels import show_labels
from audioml.params import FILE_NAME, ServingParams, read_serving
from audioml.pipeline.context import STATE_DIR, Context

if TYPE_CHECKING:
    from audioml.registry.workspace import ModelUser
    from audioml.serving.model import LoadedModel


def predict(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Audio files of any format.", show_default=False)
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--input", help="Folder of recordings, or a table (CSV, TSV, Parquet) with a column `path`."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Parquet file for the predictions on --input.")] = None,
    model: ModelRef = None,
    jobs: Jobs = None,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Predict with a registered model: on files, or on any number of them from a folder or a table.

    A run over --input that was killed goes on where it was, when it is started again.

    Example: `audioml predict clip.wav --model digits@champion`

    Example: `audioml predict --input recordings/ --output predictions.parquet`
    """
    if source is not None or output is not None:
        if source is None or output is None or files:
            raise ParamsError("Name either files, or both --input (a folder or a table) and --output (a Parquet file).")
        _predict_batch(_model_user(workspace, model), source, output, model, jobs, as_json)
        return
    if not files:
        raise ParamsError("Name audio files, or a folder of them: audioml predict --input DIR --output FILE.parquet")
    from audioml.serving.batch import predict_files

    answers = predict_files(Context.load(workspace), files, model)
    if as_json:
        print_json(answers)
    else:
        print_table(("file", "answer", "probability"), [_answer_row(answer) for answer in answers])
    if any("error" in answer for answer in answers):
        raise typer.Exit(1)


def _predict_batch(
    ctx: ModelUser, source: Path, output: Path, model: str | None, jobs: int | None, as_json: bool
) -> None:
    from audioml.serving.batch_run import predict_batch

    done = predict_batch(ctx, source, output, model, jobs)
    if as_json:
        print_json(done)
    else:
        unread = f"; {done['errors']:,} could not be read (column error_reason)" if done["errors"] else ""
        earlier = f", {done['resumed']:,} of them by an earlier run" if done["resumed"] else ""
        model_name = f"{done['model']} version {done['version']}"
        out.print(
            f"{done['output']}: {done['files']:,} recordings by {model_name}{earlier}{unread}",
            markup=False,
            soft_wrap=True,
        )
    if done["errors"] == done["files"]:
        raise typer.Exit(1)


def serve(
    model: ModelRef = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a model that is not registered yet.")] = False,
    tokens: TokensFile = None,
    params: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML with the section serving, where there is no workspace.")
    ] = None,
    workspace: Workspace = Path(),
) -> None:
    """Serve a registered model over HTTP: POST /predict with audio as multipart file or raw body.

    The server follows the model's alias: another version takes its place without a pause. The section `serving` of
    params.yaml holds limits, canary and shadow; access tokens are made by `audioml tokens add`.

    With --model and the tracking server in MLFLOW_TRACKING_URI, no workspace is needed.

    Example: `audioml serve --port 8000`, then `curl -F file=@clip.wav localhost:8000/predict`
    """
    from audioml.serving.run import serve as run_server

    def announce(address: str, loaded: LoadedModel) -> None:
        said = f"{loaded.name} version {loaded.version} answers at {address} (POST /predict, /docs)"
        out.print(said, markup=False, soft_wrap=True)

    def tell(reason: str) -> None:
        out.print(f"Waiting: {reason}", markup=False, soft_wrap=True)

    ctx = _model_user(workspace, model)
    settings = read_serving(params) if params else ctx.params.serving if isinstance(ctx, Context) else ServingParams()
    run_server(
        ctx, model, host, port, params=settings, tokens=tokens, on_ready=announce, on_wait=tell if wait else None
    )


def _model_user(workspace: Path, model: str | None) -> ModelUser:
    """Return the workspace; where there is none, what does for a model that is named, on a server that is named."""
    from audioml.registry.tracking import URI_VARIABLE
    from audioml.registry.versions import parse_reference
    from audioml.registry.workspace import Elsewhere

    if (workspace / FILE_NAME).exists() or model is None or not os.environ.get(URI_VARIABLE):
        return Context.load(workspace)
    return Elsewhere(workspace.resolve() / STATE_DIR, parse_reference(model, "")[0])


def _answer_row(answer: dict[str, Any]) -> tuple[str, ...]:
    if error := answer.get("error"):
        return answer["file"], f"not readable as audio ({error['reason']}: {error['detail']})", ""
    prediction = next(value for name, value in answer.items() if name not in ("file", "model"))
    probability = answer.get("probability")
    return answer["file"], show_labels(prediction), "" if probability is None else f"{probability:.3f}"
