"""The text of a clip of which only the beginning was heard, by its most probable units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from audioml.tasks._ctc_decoding import BLANK, Floats, decode_greedily
from audioml.tasks._texts import SPACE


class TextSoFar:
    """Reads the outputs of a clip part by part. What was read is not read again, however long the clip is.

    Parameters
    ----------
    units
        What the outputs stand for, without the blank, which is the first of them.
    """

    def __init__(self, units: Sequence[str]) -> None:
        self._units = units
        self._last = BLANK
        """The most probable of the last frame."""
        self._finished, self._word = "", ""

    def feed(self, outputs: Floats) -> dict[str, Any]:
        """Return the text so far, `{"text": ...}`, after the next part, float32 (1 + units, frames), of any scale."""
        for number in decode_greedily(outputs, self._last):
            unit = self._units[number - 1]
            if unit == SPACE:
                self._finished, self._word = self._text(), ""
            else:
                self._word += unit
        self._last = int(outputs[:, -1].argmax())
        return {"text": self._text()}

    def _text(self) -> str:
        return " ".join(filter(None, (self._finished, self._word)))
