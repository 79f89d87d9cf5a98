"""JSON Lines files: their objects, each with file and line; how a file or line that is none is reported."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deepred_common import file_forms, paths
from deepred_common.cli import UserError, warn
from deepred_common.foreign_text import whole_characters

_QUOTED = 60  # characters of a bad line that its error shows
# NaN, which pandas writes for a missing value, is no JSON: read as null.
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)


def require_file(path: str | Path) -> Path:
    """`path` as a Path; UserError unless it is a file, or if it is of another form than JSON Lines."""
    path = Path(path)
    if path.is_dir():
        advice = file_forms.folder_advice(path)
        raise UserError(f"{path} is a folder; a .jsonl file is needed. {advice}".rstrip())
    if not path.exists():
        raise UserError(f"{path} does not exist. {_advice_if_absent(path)}")
    if path.is_file():  # a pipe can be read only once
        file_forms.require_json_lines(path)
    return path


def _advice_if_absent(path: Path) -> str:
    if not os.environ.get("WIKI_DATA"):
        return "Give its path, or set WIKI_DATA to the folder that holds datasets/."
    with contextlib.suppress(UserError):  # a wrong WIKI_DATA has nothing to do with a path that was given
        if path.is_relative_to(paths.datasets_dir()):
            folder = paths.datasets_dir().parent
            return (
                f"WIKI_DATA is {folder}, which has no datasets/ with this file. "
                "Unset it to use the shipped data, or give the path."
            )
    return "Check the path."


def read_objects(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("<path> line <number>", object) for each line of a JSON Lines file; blank lines are skipped.

    Raises UserError with file, line number and what is wrong, on the first line that is not a JSON object.
    Half of a character is read as U+FFFD, with a warning that names the first such line.
    """
    path = require_file(path)
    is_whole = True
    try:
        # utf-8-sig: editors on Windows put a byte order mark first, which JSON does not allow.
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    where = f"{path} line {number}"
                    row = object_of(line, where, path)
                    if "\\u" in line:  # only an escape can be half of a character in a UTF-8 file
                        whole_row = whole_characters(row)
                        if whole_row != row and is_whole:
                            is_whole = False
                            warn(
                                f"{where} has half of a character (such as \\ud83d alone). It is read as "
                                "U+FFFD, here and in further lines."
                            )
                        row = whole_row
                    yield where, row
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text (byte {error.object[error.start]:#04x}); save it as UTF-8. "
            f"{file_forms.not_utf8_advice(path)}"
        ) from None


def object_of(line: str, where: str, path: Path) -> dict[str, Any]:
    """The JSON object of a line of the file `path`. UserError, beginning with `where`, if it is none."""
    try:
        row = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        form = file_forms.line_form(path, line)
        advice = f"\nThis is {form.name}. {form.to_do}" if form else ""
        raise UserError(
            f"{where} is not valid JSON ({error.msg}, column {error.colno}).\n"
            f"It starts: {line.strip()[:_QUOTED]}{advice}"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets without end
        raise UserError(f"{where} cannot be read ({error}).") from None
    if not isinstance(row, dict):
        raise UserError(
            f"{where} holds a JSON {type(row).__name__}; each line must be an object with "
            "'instruction' and 'output'."
        )
    return row
