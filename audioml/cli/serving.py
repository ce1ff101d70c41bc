"""Commands that answer with a registered model: predict, serve."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audioml.cli._options import AsJson, ModelRef, TokensFile, Workspace
from audioml.cli._output import out, print_json, print_table
from audioml.labels import show_labels
from audioml.params import FILE_NAME, ServingParams, read_serving
from audioml.pipeline.context import STATE_DIR, Context

if TYPE_CHECKING:
    from audioml.registry.workspace import ModelUser
    from audioml.serving.model import LoadedModel


def predict(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Audio files of any format.")],
    model: ModelRef = None,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Predict with a registered model.

    Example: `audioml predict clip.wav --model digits@champion`
    """
    from audioml.serving.batch import predict_files

    answers = predict_files(Context.load(workspace), files, model)
    if as_json:
        print_json(answers)
    else:
        print_table(("file", "answer", "probability"), [_answer_row(answer) for answer in answers])
    if any("error" in answer for answer in answers):
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
        out.print(f"{loaded.name} version {loaded.version} answers at {address} (POST /predict, /docs)", markup=False)

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
