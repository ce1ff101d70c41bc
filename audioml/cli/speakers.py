"""Commands on enrolled speakers: `audioml speakers enrol`, `identify`, `verify`, `list`, `forget`, `rebuild`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audioml.cli._options import AsJson, ModelRef, Workspace
from audioml.cli._output import out, print_json, print_table
from audioml.pipeline.context import Context

if TYPE_CHECKING:
    from audioml.serving.embedder import Embedder

app = typer.Typer(
    help="Enrol speakers by recordings, and tell who speaks in others; with a model of the task speaker.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a speaker.")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Audio files of any format.")]
Threshold = Annotated[
    float | None,
    typer.Option(
        min=-1, max=1, help="Similarity above which it is the speaker.", show_default="the model's accept_above"
    ),
]


@app.command()
def enrol(
    name: Name, files: Files, model: ModelRef = None, workspace: Workspace = Path(), as_json: AsJson = False
) -> None:
    """Add recordings of a speaker to the index.

    Example: `audioml speakers enrol ann ann/1.wav ann/2.wav`
    """
    from audioml.serving.speaker_enrolment import enrol

    ctx, embedder = _load(workspace, model, files)
    done = enrol(ctx.state, embedder, name, files)
    if as_json:
        print_json(done)
        return
    for known in done["known"]:
        _say(f"{known['file']} adds nothing: it is enrolled already, as {known['enrolled_as']}")
    _say(f"{name}: {len(done['added'])} added, {done['recordings']} in all. {_describe(done)}")


@app.command()
def identify(
    files: Files,
    k: Annotated[int, typer.Option(min=1, help="Nearest recordings of a speaker that are compared.")] = 3,
    threshold: Threshold = None,
    model: ModelRef = None,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Say who of the enrolled speakers speaks, or that it is none of them.

    Example: `audioml speakers identify call.wav`
    """
    from audioml.serving.speaker_recognition import identify

    ctx, embedder = _load(workspace, model, files)
    answers = identify(ctx.state, embedder, files, k, threshold)
    _print_answers(answers, ("speaker", "nearest"), as_json)
    if any("error" in answer for answer in answers):
        raise typer.Exit(1)


@app.command()
def verify(
    name: Name,
    files: Files,
    threshold: Threshold = None,
    model: ModelRef = None,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Say whether an enrolled speaker speaks; ends with status 1 where one file is not accepted.

    Example: `audioml speakers verify ann call.wav`
    """
    from audioml.serving.speaker_recognition import verify

    ctx, embedder = _load(workspace, model, files)
    answers = verify(ctx.state, embedder, name, files, threshold)
    _print_answers(answers, ("accepted",), as_json)
    if not all(answer.get("accepted") for answer in answers):
        raise typer.Exit(1)


@app.command("list")
def list_all(workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Show who is enrolled, with how many recordings, and by which model.

    Example: `audioml speakers list`
    """
    from audioml.serving.speaker_enrolment import list_speakers

    found = list_speakers(Context.load(workspace).state)
    if as_json:
        print_json(found)
        return
    print_table(("speaker", "recordings"), [(row["speaker"], str(row["recordings"])) for row in found["speakers"]])
    _say(_describe(found))


@app.command()
def forget(name: Name, workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Remove all that the index holds of a speaker.

    Example: `audioml speakers forget ann`
    """
    from audioml.serving.speaker_enrolment import forget

    done = forget(Context.load(workspace).state, name)
    if as_json:
        print_json(done)
        return
    _say(f"{name}: {done['recordings']} removed. {_describe(done)}")


@app.command()
def rebuild(model: ModelRef = None, workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Embed all enrolled files anew, after another version of the model became champion.

    Example: `audioml speakers rebuild`
    """
    from audioml.serving.speaker_enrolment import rebuild

    ctx, embedder = _load(workspace, model)
    done = rebuild(ctx.state, embedder)
    if as_json:
        print_json(done)
        return
    _say(f"{done['recordings']} embedded anew. {_describe(done)}")


def _load(workspace: Path, model: str | None, files: list[Path] | None = None) -> tuple[Context, Embedder]:
    """Return the workspace and the model; a file that is missing is told before anything is loaded."""
    from audioml.serving.batch import check_files
    from audioml.serving.embedder import load_embedder

    ctx = Context.load(workspace)
    check_files(files or [])
    return ctx, load_embedder(ctx, model)


def _print_answers(answers: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json(answers)
        return
    headers = ("file", *columns, "similarity", "threshold")
    print_table(headers, [_answer_row(answer, columns) for answer in answers])


def _answer_row(answer: dict[str, Any], columns: tuple[str, ...]) -> tuple[str, ...]:
    if error := answer.get("error"):
        told = f"not readable as audio ({error['reason']}: {error['detail']})"
        return (answer["file"], told, *[""] * (len(columns) + 1))
    return (
        answer["file"],
        *[_show(answer[name]) for name in columns],
        f"{answer['similarity']:.3f}",
        f"{answer['threshold']:.3f}",
    )


def _show(value: str | bool) -> str:
    return value if isinstance(value, str) else "yes" if value else "no"


def _describe(done: dict[str, Any]) -> str:
    """Return a line on the index as it is now."""
    if done["model"] is None:
        return "Nobody was ever enrolled."
    return (
        f"The index is at version {done['index']}, made by {done['model']['name']} version {done['model']['version']}."
    )


def _say(text: str) -> None:
    out.print(text, markup=False, soft_wrap=True)
