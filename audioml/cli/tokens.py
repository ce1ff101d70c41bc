"""Commands on a server's access tokens: `audioml tokens add`, `list`, `revoke`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audioml.cli._options import AsJson, TokensFile, Workspace
from audioml.cli._output import out, print_json
from audioml.pipeline.context import STATE_DIR

app = typer.Typer(
    help="Access tokens of `audioml serve`. As long as none was ever added, everybody who reaches the port may ask.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose token it is.")]


@app.command()
def add(name: Name, tokens: TokensFile = None, workspace: Workspace = Path()) -> None:
    """Make a token and print it, once: only its hash is kept.

    Example: `audioml tokens add dashboard`
    """
    from audioml.serving.tokens import add_token

    out.print(add_token(_file(tokens, workspace), name), markup=False, soft_wrap=True)


@app.command(name="list")
def list_(tokens: TokensFile = None, workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Say whose tokens are valid.

    Example: `audioml tokens list`
    """
    from audioml.serving.tokens import read_tokens

    names = list(read_tokens(_file(tokens, workspace)))
    if as_json:
        print_json(names)
    else:
        out.print("\n".join(names) or "No token.", markup=False)


@app.command()
def revoke(name: Name, tokens: TokensFile = None, workspace: Workspace = Path()) -> None:
    """Take a token back: servers refuse it from their next request on.

    Example: `audioml tokens revoke dashboard`
    """
    from audioml.serving.tokens import revoke_token

    revoke_token(_file(tokens, workspace), name)
    out.print(f"The token of {name} is revoked.", markup=False)


def _file(tokens: Path | None, workspace: Path) -> Path:
    """Return the named file, or the workspace's own."""
    from audioml.pipeline.context import Context
    from audioml.serving.tokens import FILE

    return tokens or Context.load(workspace).workspace / STATE_DIR / FILE
