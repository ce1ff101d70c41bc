"""Reading recordings: from records of a listing to facts, and clips to pack. A bad one gets a reason and stops nothing.

A file that crashes a decoder (a segmentation fault) takes the process with it. So the recording that is being read is
noted in a file, to which Python's faulthandler writes as the process dies: the next attempt at the same item finds
both, and puts the culprit into quarantine instead of reading it again. A process that was killed from outside leaves
no such trace, and no recording is blamed for it.
"""

from __future__ import annotations

import faulthandler
import mmap
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from audioml.audio.decode import AudioInfo, decode_with_info
from audioml.audio.stats import measure_audio
from audioml.audio.stream import AudioFile, cut_recording
from audioml.datasets._record import Record
from audioml.datasets._source import Source
from audioml.datasets._source.ahead import read_ahead
from audioml.errors import DecodeError
from audioml.params import DataParams, Section
from audioml.plugins import load_plugin
from audioml.store.clips import Clip
from audioml.store.files import hash_bytes, hash_file
from audioml.store.withdrawn import REASON, Withdrawn

Finding = tuple[dict[str, Any], Clip | None]
"""A row of facts (`audioml.store.recordings`), and the clip to pack unless the recording is bad."""
NOTE_BYTES = 8
"""Length of the note; what stands after it was written by a crash."""


@dataclass(frozen=True)
class Examiner:
    """Reads the recordings of one item, one after the other."""

    data: DataParams
    source: Source | None
    segment: tuple[str, Section] | None
    """Name and params of the plug-in that cuts recordings into segments; None packs them whole."""
    note: Path
    """Where the recording that is being read is noted. `<note>.crashed` lists those that ended a process."""
    withdrawn: Withdrawn = field(default_factory=Withdrawn)
    """Recordings that are left out, whatever they are called now."""

    def examine(self, records: Iterable[Record]) -> Iterator[Finding]:
        """Yield what reading each recording finds: one clip, or several segments, or the reason why there is none."""
        records = list(records)
        crashed = self._find_crashed(records)
        layout = load_plugin("datasets", self.data.layout)
        with _watch(self.note) as begin:
            for index, (record, look) in enumerate(zip(records, self._looks(layout, records), strict=True)):
                begin(index)
                if detail := crashed.get(record.path):
                    yield _facts(record, reason="crash", detail=detail), None
                else:
                    yield from _name_faults(record, look())

    def _looks(self, layout: ModuleType, records: list[Record]) -> Iterator[Callable[[], Iterator[Finding]]]:
        """Yield for each record a function that looks at it; several are read at once where a source takes its time."""
        if self.segment is not None:
            yield from (partial(self._cut, layout, record) for record in records)
            return
        reads = read_ahead(self.source, partial(layout.read, self.data, self.source), records)
        yield from (partial(self._take, record, read) for record, read in zip(records, reads, strict=True))

    def _take(self, record: Record, read: Callable[[], bytes]) -> Iterator[Finding]:
        data = read()
        if self.withdrawn and (clip_id := hash_bytes(data)) in self.withdrawn.by_id:
            yield self._leave_out(record, clip_id)
            return
        yield _describe(record, data, *decode_with_info(data), 0.0)

    def _leave_out(self, record: Record, sha256: str) -> Finding:
        detail = self.withdrawn.by_id[sha256].describe()
        return _facts(record, reason=REASON, detail=detail, clip_id=sha256), None

    def _cut(self, layout: ModuleType, record: Record) -> Iterator[Finding]:
        assert self.segment is not None
        plugin, params = load_plugin("segment", self.segment[0]), self.segment[1]
        with layout.fetch(self.data, self.source, record) as path:
            if self.withdrawn and (sha256 := hash_file(path)) in self.withdrawn.by_id:
                yield self._leave_out(record, sha256)
                return
            with AudioFile(path) as file:
                whole = plugin.keeps_whole(params, file.info)
            if whole:
                data = path.read_bytes()
                yield _describe(record, data, *decode_with_info(data), 0.0)
                return
            found = False
            for segment in cut_recording(path, partial(plugin.make, params)):
                found = True
                yield _describe(record, segment.data, segment.audio, segment.info, segment.start_s)
            if not found:
                detail = (
                    f"ingest.segment {self.segment[0]!r} found nothing in it to cut out; lower what its keys ask for"
                )
                yield _facts(record, reason="silent", detail=detail), None

    def _find_crashed(self, records: list[Record]) -> dict[str, str]:
        """Return why, by path, of recordings that ended an earlier attempt at this item."""
        list_of_crashed = self.note.with_suffix(".crashed")
        noted = self.note.read_bytes() if self.note.exists() else b""
        if trace := noted[NOTE_BYTES:].decode(errors="replace").strip():
            path = records[struct.unpack_from("<q", noted)[0]].path
            with list_of_crashed.open("a", encoding="utf-8") as file:
                file.write(f"{path}\t{trace.splitlines()[0].removeprefix('Fatal Python error: ')}\n")
            self.note.unlink()
        if not list_of_crashed.exists():
            return {}
        entries = [line.rpartition("\t") for line in list_of_crashed.read_text(encoding="utf-8").splitlines()]
        return {path: f"reading it ended the process: {why}" for path, _, why in entries}


def _name_faults(record: Record, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield what is found, and the reason why no more was found if reading the recording fails."""
    try:
        yield from findings
    except FileNotFoundError:
        yield _facts(record, reason="missing", detail="the file is not there"), None
    except OSError as error:
        yield _facts(record, reason="unopened", detail=f"cannot be opened: {error.strerror or error}"), None
    except DecodeError as error:
        yield _facts(record, reason=error.reason, detail=error.detail), None


@contextmanager
def _watch(note: Path) -> Iterator[Callable[[int], None]]:
    """Yield a function that notes the index of the recording that is read next; a crash writes after it."""
    note.parent.mkdir(parents=True, exist_ok=True)
    was_enabled = faulthandler.is_enabled()
    with note.open("w+b") as file:
        file.write(bytes(NOTE_BYTES))
        file.flush()
        # Mapped, as a system call a recording would show.
        with mmap.mmap(file.fileno(), NOTE_BYTES) as noted:
            faulthandler.enable(file, all_threads=False)
            try:
                yield lambda index: struct.pack_into("<q", noted, 0, index)
            finally:
                faulthandler.disable()
                if was_enabled:
                    faulthandler.enable()
    note.unlink(missing_ok=True)


def _facts(record: Record, **found: Any) -> dict[str, Any]:
    return {"path": record.path, "listed_bytes": record.size_bytes, "version": record.version, **found}


def _describe(record: Record, data: bytes, audio: Any, info: AudioInfo, start_s: float) -> Finding:
    clip_id = hash_bytes(data)
    measured = measure_audio(audio, info.sample_rate)
    facts = _facts(
        record,
        clip_id=clip_id,
        start_s=start_s,
        size_bytes=len(data),
        format=info.format,
        subtype=info.subtype,
        sample_rate=info.sample_rate,
        channels=info.channels,
        duration_s=measured.duration_s,
        peak_dbfs=measured.peak_dbfs,
        rms_dbfs=measured.rms_dbfs,
        dc_offset=measured.dc_offset,
        clipped_share=measured.clipped_share,
        silent_share=measured.silent_share,
    )
    return facts, Clip(clip_id, record.path, data)
