"""New recordings start an ingest: an asset for the source, and a watcher of it in Airflow's triggerer."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, AssetWatcher
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from audioml.errors import AudiomlError, ParamsError
from audioml.params import FILE_NAME, Params
from audioml.pipeline.context import STATE_DIR
from audioml.store.files import read_json, write_json

LANDING = "landing"
ANNOUNCED = f"{STATE_DIR}/landing.json"
"""What was last announced, so that a new triggerer does not announce it again."""
MOST_LOOKS = 10
"""Looks after which new recordings are announced even if more land all the time."""
STORED_S = 5.0
"""So long after it fires, an event has surely been stored by Airflow, and counts as announced. A triggerer that is
killed before that announces again, as an ingest too many does nothing, and one too few may wait for days."""


@dataclass(frozen=True)
class Look:
    """A source at one moment."""

    files: int
    """Files that may be recordings."""
    bytes: int
    digest: str
    """SHA-256 of their paths, sizes and versions."""


def landing_asset(folder: Path, params: Params) -> Asset:
    """Return the asset of a workspace's source, with a watcher that updates it when recordings come, change or go.

    Raises
    ------
    ParamsError
        When the workspace makes its clips itself.
    """
    data = params.data
    if data.source is None or params.airflow.watch_s is None:
        raise ParamsError(
            f"{FILE_NAME}: 'airflow.watch_s' is {params.airflow.watch_s!r}, but there is no data.source to look at. "
            "Set it to null."
        )
    trigger = LandingTrigger(
        source=data.source if data.is_remote else str(folder / data.source),
        storage_options=data.storage_options,
        announced=str(folder / ANNOUNCED),
        watch_s=params.airflow.watch_s,
    )
    name = f"{params.name}.{LANDING}"
    watcher = AssetWatcher(name=name, trigger=trigger)
    return Asset(name=name, uri=f"audioml://{params.name}/{LANDING}", group="audioml", watchers=[watcher])


def look_at(source: str, storage_options: Mapping[str, Any]) -> Look:
    """List a source.

    Raises
    ------
    SourceError, ServiceError
        When it does not exist, may not be read, or does not answer.
    """
    # Only the triggerer gets here, and in a thread: reading DAG files must stay light.
    from audioml.datasets._source import Source

    place = Source.of(source, storage_options=storage_options)
    # A table is one file; what it lists is not looked at.
    records = place.list_files() if place.is_folder() else place.describe([""])
    digest = hashlib.sha256()
    for record in records:
        digest.update(f"{record.path}\0{record.size_bytes}\0{record.version}\n".encode())
    return Look(len(records), sum(record.size_bytes for record in records), digest.hexdigest())


class LandingTrigger(BaseEventTrigger):  # type: ignore[misc]
    """Fires when a source differs from what was last announced, once it has stayed the same for two looks.

    So files that are still being copied start no run. An empty source is no event. One that cannot be listed is
    logged, and looked at again.

    Parameters
    ----------
    source : str
        An absolute path or a URL.
    storage_options : mapping
        Options of fsspec for a URL.
    announced : str
        File that keeps what was last announced.
    watch_s : float
        Seconds between two looks.
    """

    def __init__(self, *, source: str, storage_options: Mapping[str, Any], announced: str, watch_s: float) -> None:
        super().__init__()
        self.source = source
        self.storage_options = dict(storage_options)
        self.announced = announced
        self.watch_s = watch_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and its arguments, from which a triggerer makes it again."""
        arguments = {
            "source": self.source,
            "storage_options": self.storage_options,
            "announced": self.announced,
            "watch_s": self.watch_s,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, and look again, without an end."""
        known = await asyncio.to_thread(self._read_announced)
        before: Look | None = None
        changing = 0
        while True:
            seen = await asyncio.to_thread(self._look)
            is_new = seen is not None and seen.files > 0 and seen.digest != known
            changing = changing + 1 if is_new else 0
            # What is still being copied when a source never comes to rest is unreadable now and read again later.
            if seen and is_new and (seen == before or changing > MOST_LOOKS):
                changing = 0
                yield TriggerEvent({"source": self.source, **asdict(seen)})
                await asyncio.sleep(STORED_S)
                known = seen.digest
                await asyncio.to_thread(self._write_announced, seen)
            before = seen
            await asyncio.sleep(self.watch_s)

    def _look(self) -> Look | None:
        try:
            return look_at(self.source, self.storage_options)
        except AudiomlError as error:
            self.log.warning("%s It is looked at again.", error)
        except OSError as error:
            self.log.warning("%s cannot be listed (%s). It is looked at again.", self.source, error)
        return None

    def _write_announced(self, seen: Look) -> None:
        try:
            write_json(Path(self.announced), {"source": self.source, **asdict(seen)})
        except (OSError, AudiomlError) as error:
            self.log.warning("%s cannot be written (%s): a new triggerer will announce again.", self.announced, error)

    def _read_announced(self) -> str | None:
        try:
            kept = read_json(Path(self.announced))
            return str(kept["digest"]) if kept["source"] == self.source else None
        except (OSError, ValueError, KeyError, TypeError):
            # None yet, or damaged: one event too many does no harm.
            return None
