"""Text that others wrote (servers, models, data files): mended on the way in, escaped on the way out."""

from __future__ import annotations

import re
from typing import Any

# JavaScript writes "\ud83d" where it cut a text between the two halves of an emoji. No file in UTF-8, no
# tokenizer and no terminal takes such a half.
_HALF = re.compile("[\ud800-\udfff]")
# How streams and files write what their encoding cannot hold, as a name of undecodable bytes: "\udce9". In a
# JSON file it is JSON's own escape, so it is read back as it was.
ESCAPED = "backslashreplace"
# A terminal obeys these: they move its cursor, clear it, or turn the direction of its text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def whole_characters(value: Any) -> Any:
    """A JSON value with U+FFFD in place of each half of a character, in all its texts."""
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, list):
        return [whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {whole_characters(key): whole_characters(item) for key, item in value.items()}
    return value


def printable(text: str) -> str:
    """The text with control characters spelled out ("\\x1b"), except for line breaks and tabs."""
    return _CONTROL.sub(lambda sign: ascii(sign[0])[1:-1], text.replace("\r\n", "\n"))
