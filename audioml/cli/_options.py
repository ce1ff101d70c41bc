"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audioml.pipeline.graph import STEPS

Workspace = Annotated[
    Path, typer.Option("--workspace", "-C", help="Folder with params.yaml.", show_default="current folder")
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Worker processes.", show_default="one a core")]
ModelRef = Annotated[
    str | None,
    typer.Option(help="NAME@ALIAS or NAME/VERSION of a registered model.", show_default="this workspace's @champion"),
]
StepName = Annotated[str, typer.Argument(help=f"One of: {', '.join(s.name for s in STEPS)}.")]
TokensFile = Annotated[
    Path | None,
    typer.Option("--tokens", metavar="FILE", help="File of access tokens.", show_default=".audioml/tokens.json"),
]
