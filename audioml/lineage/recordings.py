"""Which recording a user means: by its path in the source, a file here, or the SHA-256 of a clip."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from audioml.errors import AudiomlError, StoreError, did_you_mean
from audioml.pipeline.context import Context
from audioml.plugins import load_plugin
from audioml.registry.training_sets import read_training_set
from audioml.registry.versions import list_versions
from audioml.store.files import hash_file
from audioml.store.manifest import MANIFEST, read_manifest
from audioml.store.withdrawn import WITHDRAWN, read_withdrawn

PREFIX = re.compile(r"[0-9a-f]{8,64}")
"""A clip's id, or enough of it."""
DIGITS = 64
COLUMNS = ["clip_id", "path", "start_s"]


@dataclass(frozen=True)
class Recording:
    """One recording, and the clips that were made from it."""

    path: str
    """Relative to the source; of a file that was never ingested, as it was given."""
    sha256: str
    """Of the file; empty where it was cut into clips and cannot be read now."""
    clips: tuple[str, ...]
    """Ids; of a recording that was taken whole, its SHA-256."""
    is_cut: bool = False
    ingested: bool = True
    """Whether it is in the manifest."""


class RecordingFinder:
    """Finds recordings in the manifest, among those withdrawn, and in what the registry's models were trained on.

    Needs `audioml.registry.tracking.tracking` around it.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        path = ctx.path(MANIFEST)
        self._manifest = read_manifest(path) if path.exists() else pd.DataFrame(columns=COLUMNS, dtype=object)

    @property
    def manifest(self) -> pd.DataFrame:
        """The present manifest; without rows where there is none."""
        return self._manifest

    def find(self, reference: str) -> Recording | None:
        """Return the recording that a reference names, or None.

        Raises
        ------
        StoreError
            When the beginning of an id fits clips of several recordings.
        """
        file = Path(reference).expanduser()
        if (path := self._look_up(self._manifest, reference, file)) is not None:
            return self._describe(self._manifest, path, True)
        for entry in read_withdrawn(self._ctx.path(WITHDRAWN)).entries:
            ids = [key for key in (entry.sha256, *entry.clips) if key]
            begins = PREFIX.fullmatch(reference) and any(key.startswith(reference) for key in ids)
            if entry.path == reference or begins or (file.is_file() and hash_file(file) in ids):
                is_cut = (entry.sha256,) != entry.clips
                return Recording(entry.path, entry.sha256, entry.clips, is_cut, ingested=False)
        for model, clips in self._learned.items():
            # The same path means another recording in another workspace.
            by_path = model == self._ctx.model_name
            if (path := self._look_up(clips, reference, file, by_path)) is not None:
                return self._describe(clips, path, False)
        if file.is_file():
            sha256 = hash_file(file)
            return Recording(reference, sha256, (sha256,), ingested=False)
        return None

    def require(self, reference: str) -> Recording:
        """Return the recording that a reference names.

        Raises
        ------
        StoreError
            When there is none.
        """
        found = self.find(reference)
        if found is None:
            raise StoreError(
                f"No recording is called {reference!r}.{did_you_mean(reference, self._manifest['path'])} Give its path "
                f"as in {MANIFEST}, a file here, or the SHA-256 of a clip (its first 8 digits or more)."
            )
        return found

    def of_group(self, column: str, value: str) -> list[Recording]:
        """Return the recordings of the manifest with this value in a column.

        Raises
        ------
        StoreError
            When there is no such column or value; the message lists some that there are.
        """
        manifest = self._manifest
        if column not in manifest.columns:
            raise StoreError(
                f"{MANIFEST} has no column {column!r}.{did_you_mean(column, manifest.columns)} "
                f"Columns: {', '.join(manifest.columns)}."
            )
        values = manifest[column].astype("string")
        paths = manifest.loc[values == value, "path"].unique()
        if not len(paths):
            known = sorted(values.dropna().unique())
            raise StoreError(
                f"No recording has {column} {value!r}.{did_you_mean(value, known)} There are: "
                f"{', '.join(known[:20])}{', ...' if len(known) > 20 else ''}."
            )
        return [self._describe(manifest, path, True) for path in paths]

    def _look_up(self, clips: pd.DataFrame, reference: str, file: Path, by_path: bool = True) -> str | None:
        """Return the path of the recording in a table of clips."""
        if by_path and (clips["path"] == reference).any():
            return reference
        if file.is_file():
            same = clips.loc[clips["clip_id"] == hash_file(file), "path"]
            if len(same):
                return str(same.iloc[0])
            source = self._ctx.source
            if by_path and source is not None and not source.is_remote:
                inside = Path(source.address).resolve()
                inside = inside if inside.is_dir() else inside.parent
                if file.resolve().is_relative_to(inside):
                    relative = file.resolve().relative_to(inside).as_posix()
                    # Of a recording that was taken whole, other bytes at its path are another recording.
                    if _is_cut(clips[clips["path"] == relative], self._ctx):
                        return relative
            return None
        if PREFIX.fullmatch(reference):
            paths = clips.loc[clips["clip_id"].str.startswith(reference), "path"].unique()
            if len(paths) > 1 and len(reference) < DIGITS:
                raise StoreError(
                    f"{reference} begins the ids of clips of {len(paths)} recordings ({', '.join(paths[:3])}). Give "
                    "more digits."
                )
            return str(paths[0]) if len(paths) else None
        return None

    def _describe(self, clips: pd.DataFrame, path: str, ingested: bool) -> Recording:
        rows = clips[clips["path"] == path]
        ids = tuple(dict.fromkeys(rows["clip_id"]))
        is_cut = _is_cut(rows, self._ctx)
        sha256 = self._hash_source(path) if is_cut else ids[0] if len(ids) == 1 else ""
        return Recording(path, sha256, ids, is_cut, ingested)

    def _hash_source(self, path: str) -> str:
        """Return the SHA-256 of a recording at the source; empty if it cannot be read."""
        from audioml.datasets._record import Record

        data = self._ctx.params.data_section()
        layout = load_plugin("datasets", data.layout)
        try:
            with layout.fetch(data, self._ctx.source, Record(path, 0, "")) as file:
                return hash_file(file)
        except (OSError, AudiomlError):
            return ""

    @cached_property
    def _learned(self) -> dict[str, pd.DataFrame]:
        """The clips that models of the registry have met, by the model's name; the workspace's own first."""
        tables: dict[str, list[pd.DataFrame]] = {self._ctx.model_name: []}
        for version in list_versions():
            if (table := read_training_set(self._ctx, version)) is not None:
                tables.setdefault(version.name, []).append(table[COLUMNS])
        return {name: pd.concat(own) for name, own in tables.items() if own}


def _is_cut(rows: pd.DataFrame, ctx: Context) -> bool:
    return len(rows) > 0 and (bool(rows["start_s"].gt(0).any()) or ctx.params.ingest.segment is not None)
