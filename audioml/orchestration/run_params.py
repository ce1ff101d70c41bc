"""The params of a run: checked and kept when it begins, in params.yaml while it lasts, put back when it ends.

`.audioml/runs/<key>/` keeps `params.yaml` (what the run was made with), `original.yaml` (what stood there before) and
`run.json` (the record). The folder is whole before params.yaml is replaced, and its record says that the run ended only
once params.yaml is put back: whoever is killed in between, the next call finds what to do.

Who may run is no matter of this module: a workspace has one run at a time.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from audioml.errors import ParamsError, did_you_mean
from audioml.orchestration.overrides import override_file
from audioml.params import FILE_NAME, Params, load_params
from audioml.pipeline.context import STATE_DIR
from audioml.store.files import read_json, write_atomic, write_folder_atomic, write_json
from audioml.store.locks import hold_lock

MAX_KEPT = 100
"""Runs whose params are kept; the oldest go first."""
RUNS, LOCK, RECORD, EFFECTIVE, ORIGINAL = "runs", "locks/runs", "run.json", "params.yaml", "original.yaml"
_NAME_LENGTH = 200
"""In bytes, of a folder's name; file systems take 255."""

Outcome = Literal["unchanged", "restored", "edited", "unknown"]


@dataclass(frozen=True)
class RunRecord:
    """A run and its settings."""

    key: str
    settings: tuple[str, ...]
    begun: str
    """UTC, ISO 8601."""
    ended: str | None = None
    outcome: Outcome | None = None
    """Of params.yaml at the run's end. unchanged: there was nothing to put back. restored: it is what it was before the
    run. edited: somebody changed it during the run, and it stays as they left it."""
    ended_by: str | None = None
    """The next run, where this one was killed before it could end itself."""


def begin_run(folder: Path, run_key: str, settings: Sequence[str]) -> dict[str, Any]:
    """Check a run's params, keep them with the run, and put them in place.

    A former run that never ended is ended first. Then an error leaves all as it was.

    Parameters
    ----------
    folder : Path
        The workspace.
    run_key : str
        Names the run. One that began before begins anew, from params.yaml as it is now.
    settings : sequence of str
        Changes to params.yaml for this run, as `audioml.orchestration.overrides`. Without any, it is not touched.

    Returns
    -------
    dict
        The record, `params` (path of the kept file, relative to the workspace) and `ended` (keys of former runs).

    Raises
    ------
    ParamsError
        When a setting, or params.yaml itself, is not valid.
    """
    with hold_lock(folder / STATE_DIR / LOCK):
        ended = [_end(folder, record, ended_by=run_key).key for record in list_runs(folder) if not record.ended]
        path = folder / FILE_NAME
        load_params(folder)
        original = path.read_bytes()
        effective = override_file(path, settings).encode() if settings else original
        place = _place(folder, run_key)
        record = RunRecord(run_key, tuple(settings), _now())
        _remove_leftovers(place.parent)
        with write_folder_atomic(place) as temporary:
            _write(temporary / ORIGINAL, original)
            _write(temporary / EFFECTIVE, effective)
            write_json(temporary / RECORD, asdict(record))
        if effective != original:
            _write(path.resolve(), effective)
        _forget_old_runs(folder)
    return {**asdict(record), "params": str((place / EFFECTIVE).relative_to(folder)), "ended": ended}


def end_run(folder: Path, run_key: str) -> RunRecord:
    """Put params.yaml back as it was before the run, unless somebody edited it since. Again is no harm.

    Returns
    -------
    RunRecord
        With the outcome; `unknown` for a run that never began here.
    """
    with hold_lock(folder / STATE_DIR / LOCK):
        record = _read_record(_place(folder, run_key))
        if record is None:
            return RunRecord(run_key, (), "", outcome="unknown")
        return record if record.ended else _end(folder, record)


def load_own_params(folder: Path) -> Params:
    """Return the params of a workspace itself, also while a run has its own in their place.

    Raises
    ------
    ParamsError
        As `audioml.params.load_params`.
    """
    path = folder / FILE_NAME
    for record in list_runs(folder):
        place = _place(folder, record.key)
        if record.settings and not record.ended and path.read_bytes() == (place / EFFECTIVE).read_bytes():
            return load_params(place, ORIGINAL)
    return load_params(folder)


def list_runs(folder: Path) -> list[RunRecord]:
    """Return the runs whose params are kept, the newest first."""
    records = [_read_record(place) for place in (folder / STATE_DIR / RUNS).glob("[!.]*")]
    return sorted((r for r in records if r is not None), key=lambda r: r.begun, reverse=True)


def kept_params(folder: Path, run: str) -> Path:
    """Return the path of the params.yaml that a run was made with.

    Parameters
    ----------
    folder : Path
        The workspace.
    run : str
        A run's key, or what follows its last slash where one run only has it: Airflow's own id of a run.

    Raises
    ------
    ParamsError
        When no such run is kept, or several are.
    """
    keys = [record.key for record in list_runs(folder)]
    found = [key for key in keys if key == run] or [key for key in keys if key.endswith(f"/{run}")]
    if len(found) > 1:
        raise ParamsError(f"{len(found)} runs are called {run!r}. Name one of them in full: {', '.join(found)}")
    if not found:
        names = {name for key in keys for name in (key, key.rpartition("/")[2])}
        raise ParamsError(
            f"No run called {run!r} is kept in {folder}.{did_you_mean(run, names)} See: audioml runs list"
        )
    return _place(folder, found[0]) / EFFECTIVE


def _end(folder: Path, record: RunRecord, ended_by: str | None = None) -> RunRecord:
    place, path = _place(folder, record.key), folder / FILE_NAME
    original, effective = (place / ORIGINAL).read_bytes(), (place / EFFECTIVE).read_bytes()
    present = path.read_bytes() if path.exists() else None
    outcome: Outcome
    if effective == original:
        outcome = "unchanged"
    elif present == effective:
        _write(path.resolve(), original)
        outcome = "restored"
    else:
        outcome = "restored" if present == original else "edited"
    record = replace(record, ended=_now(), outcome=outcome, ended_by=ended_by)
    write_json(place / RECORD, asdict(record))
    return record


def _read_record(place: Path) -> RunRecord | None:
    path = place / RECORD
    if not path.exists():
        return None
    fields = read_json(path)
    return RunRecord(**{**fields, "settings": tuple(fields["settings"])})


def _forget_old_runs(folder: Path) -> None:
    for record in list_runs(folder)[MAX_KEPT:]:
        place = _place(folder, record.key)
        place.rename(place.with_name(f".{place.name}"))
    _remove_leftovers(folder / STATE_DIR / RUNS)


def _remove_leftovers(runs: Path) -> None:
    """Remove what killed processes left half made or half removed; the lock says that nobody is at it now."""
    for leftover in runs.glob(".*"):
        shutil.rmtree(leftover)


def _write(path: Path, data: bytes) -> None:
    with write_atomic(path) as temporary:
        temporary.write_bytes(data)


def _place(folder: Path, run_key: str) -> Path:
    """Return the folder of a run; its name is the key, as in a URL."""
    name = quote(run_key, safe=":+")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _NAME_LENGTH:
        name = f"{name[:_NAME_LENGTH]}-{hashlib.sha256(run_key.encode()).hexdigest()[:16]}"
    return folder / STATE_DIR / RUNS / name


def _now() -> str:
    return datetime.now(UTC).isoformat()
