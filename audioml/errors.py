"""Every error that audioml raises on purpose.

    AudiomlError
    ├── ParamsError        a key or value in params.yaml, or an option of a command
    │   └── UnknownPluginError  a name for which there is no plug-in file
    ├── SourceError        the recordings: missing, empty, or not laid out as params say
    ├── DecodeError        one audio file or upload that cannot be read as audio
    ├── DatasetError       the manifest, its checks, or its split (a leak, too few clips)
    ├── StoreError         a stored file that is missing, or whose checksum is wrong
    ├── StepError          a step that cannot run here (an input is missing, an item is unknown)
    ├── RegistryError      a model, version or alias that the registry does not have
    └── ServiceError       a process audioml starts or talks to (a port in use, no git, no server)

The command line prints an AudiomlError, or an error of the system (OSError), without a traceback; anything else is a
bug. Its exit status, one of those below, says whether trying again may help.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

USER_ERROR = 1
"""Exit status of the command line for an error that trying again does not mend."""
SOFTWARE_ERROR = 70
"""EX_SOFTWARE: a fault of the program, with its traceback."""
IO_ERROR = 74
"""EX_IOERR: a disk or a network failed to read or write; trying again may mend it."""
SERVICE_ERROR = 75
"""EX_TEMPFAIL: a service is not available; trying again may mend it."""


class AudiomlError(Exception):
    """Base of the tree. The message says which item, what came, what was expected, what to do."""


class ParamsError(AudiomlError):
    """A key or value in params.yaml, or an option of a command, is not valid."""


class UnknownPluginError(ParamsError):
    """No plug-in file has this name."""


class SourceError(AudiomlError):
    """The source of recordings is missing, empty, or not laid out as params.yaml says."""


class DecodeError(AudiomlError):
    """One file or upload cannot be read as audio. `reason` is a short machine-readable word."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, str]]:
        return DecodeError, (self.reason, self.detail)


class DatasetError(AudiomlError):
    """The manifest fails its checks, or cannot be split as asked."""


class StoreError(AudiomlError):
    """A stored file is missing or does not match its checksum."""


class StepError(AudiomlError):
    """A step cannot run here."""


class RegistryError(AudiomlError):
    """The model registry does not have what was asked for."""


class ServiceError(AudiomlError):
    """A process that audioml starts or talks to is not available."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""
