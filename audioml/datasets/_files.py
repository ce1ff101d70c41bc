"""Whether there is a source, and whether it is a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audioml.errors import SourceError

if TYPE_CHECKING:
    from audioml.datasets._source import Source


def check_source(source: Source | None, layout: str) -> Source:
    """Return the source if there is one.

    Raises
    ------
    SourceError
        When params name none.
    """
    if source is None:
        raise SourceError(
            f"data.layout {layout!r} needs data.source: the folder of recordings, or its URL. Set it in params.yaml."
        )
    return source


def check_folder(source: Source | None, layout: str) -> Source:
    """Return the source if it is a folder.

    Raises
    ------
    SourceError
        When there is none, or it is a file, or its address does not answer.
    """
    source = check_source(source, layout)
    if not source.is_folder():
        raise SourceError(f"The source {source} is a file, but data.layout {layout!r} needs a folder of recordings.")
    return source
