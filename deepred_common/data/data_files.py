"""A user's data file: its lines as bytes, its usable examples, its part of the data, and a clean copy."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Set
from pathlib import Path

from deepred_common.cli import UserError
from deepred_common.data.findings import Findings
from deepred_common.data.repeats import DEV, HELD_OUT, TRAINING
from deepred_common.examples import Example, examples_of, side_in_name
from deepred_common.files import whole_file
from deepred_common.foreign_text import whole_characters
from deepred_common.json_lines import object_of

_PART_WORDS = {
    TRAINING: r"train|training",
    DEV: r"dev",
    HELD_OUT: r"val(?:id|idate|idation)?(?: ?set)?|test(?:s|ing| ?set)?|eval(?:s|uation)?|h[eo]ld ?out",
}
_PARTS = [(part, re.compile(rf"(?<![a-z])(?:{words})(?![a-z])")) for part, words in _PART_WORDS.items()]
_WORD_BORDER = re.compile(r"(?<=[a-z])(?=[A-Z])|[_-]")


def part_of(path: Path) -> str:
    """TRAINING, DEV or HELD_OUT, by the first word of the file's name that says so, or else of its folder's.

    TRAINING if no word says so.
    """
    for name in (path.stem, path.resolve().parent.name):
        words = _WORD_BORDER.sub(" ", name).lower()
        matches = [(match.start(), part) for part, pattern in _PARTS if (match := pattern.search(words))]
        if matches:
            return min(matches)[1]
    return TRAINING


def usable_examples(path: Path, findings: Findings) -> Iterator[Example]:
    """Yield the examples of a file that can be used; the others are noted in `findings`."""
    empty = True
    named_side = side_in_name(path)
    # Training reads such files by side, and refuses a line of another.
    expected_side = named_side if re.fullmatch(r"(retain|unlearn)_(train|val)", path.stem) else None
    for where, raw in _lines(path):
        if not raw.strip():
            continue
        empty = False
        try:
            row = object_of(raw.decode(), where, path)
            if b"\\u" in raw:  # only an escape can be half of a character
                row = whole_characters(row)
            yield from examples_of(row, where, expected_side, named_side)
        except UnicodeDecodeError as error:
            findings.add("unusable", where, f"not UTF-8 (byte {raw[error.start]:#04x})")
        except UserError as error:
            findings.add("unusable", where, str(error).removeprefix(where).splitlines()[0].lstrip(":, "))
    if empty:
        findings.add("unusable", f"{path} line 1", "the file is empty")


def write_without(path: Path, left_out: Set[str], folder: Path) -> tuple[Path, int, int]:
    """Copy a file to `folder` without the lines whose `where` is in `left_out`.

    Returns (copy, lines kept, lines left out). The bytes of the lines kept do not change.
    """
    copy = folder / path.name
    kept = dropped = 0
    with whole_file(copy) as temporary, temporary.open("wb") as out:
        for where, raw in _lines(path):
            if where in left_out:
                dropped += 1
            elif raw.strip():
                out.write(raw if raw.endswith((b"\n", b"\r")) else raw + b"\n")
                kept += 1
    return copy, kept, dropped


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield ("<path> line <number>", bytes) of each line, without the mark of UTF-8 that may open a file.

    A carriage return alone ends a line too, as it does when training reads a file (old Macs wrote it).
    """
    number = 0
    with path.open("rb") as file:
        if file.read(3) != codecs.BOM_UTF8:
            file.seek(0)
        for chunk in file:
            for raw in chunk.splitlines(keepends=True):
                number += 1
                yield f"{path} line {number}", raw
