"""JSON Lines to validated examples: what a training or test line is, and how a bad one is reported."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepred_common.cli import UserError

VERSION = (
    1  # raise it when the same line is read as another example: what is made of examples is kept under it
)
RETAIN = "retain"
UNLEARN = "unlearn"
SIDES = (RETAIN, UNLEARN)
# metadata.seen of a test line: was its fact trained on? The values are part of the files' format.
SEEN_TRAINED = "trained"
SEEN_HELD_OUT = "held back"
_SIDE_OF_TEMPORAL_CLASS = {"pre_cutoff": RETAIN, "post_cutoff": UNLEARN}
_QUOTED = 60  # characters of a bad line that its error shows
_QUOTED_VALUE = 40  # of a bad value in it


@dataclass(frozen=True)
class Example:
    """One question and the reply it should get.

    side: RETAIN (a fact from before the cutoff, `output` is the answer) or UNLEARN (after it, `output` is a
    refusal). metadata: the line's own, untouched; `accepted_answers` (retain) lists short texts any of
    which shows a right reply, `original_answer` (unlearn) is the true answer that must not leak. where:
    file and line it was read from.
    """

    instruction: str
    output: str
    side: str
    metadata: dict[str, Any] = field(default_factory=dict)
    where: str = field(default="", compare=False)


def side_of(metadata: dict[str, Any]) -> str | None:
    """RETAIN or UNLEARN, as a line's metadata say; None if they do not."""
    side = metadata.get("dataset_type")
    return side if side in SIDES else _SIDE_OF_TEMPORAL_CLASS.get(str(metadata.get("temporal_class")))


def example_of(row: dict[str, Any], where: str, expected_side: str | None) -> Example:
    """The Example of a line's object. `expected_side`: what it must be; None if it says so itself.

    Raises UserError, beginning with `where`, for an object that is no example, or of the other side.
    """
    texts = {key: _text(row, key, where) for key in ("instruction", "output")}
    # The Alpaca convention of the upstream data: `input` continues the instruction; upstream always leaves
    # it empty.
    more = row.get("input")
    if isinstance(more, str) and more.strip():
        texts["instruction"] += "\n\n" + more.strip()
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise UserError(f"{where}: 'metadata' must be an object.")
    metadata = _with_right_types(metadata, where)
    side = side_of(metadata)
    if expected_side and side and side != expected_side:
        raise UserError(f"{where} says it is {side!r}, but the file was given as {expected_side} data.")
    side = side or expected_side
    if side is None:
        raise UserError(
            f"{where} does not say its side: metadata.dataset_type must be 'retain' or 'unlearn'."
        )
    return Example(texts["instruction"], texts["output"], side, metadata, where)


def _text(row: dict[str, Any], key: str, where: str) -> str:
    """The text under a key, without spaces around it. UserError if it is missing, empty or not whole."""
    text = row.get(key)
    if not isinstance(text, str) or not text.strip():
        is_wrong = "is missing"
        if key in row:
            is_wrong = f"is {json.dumps(text, ensure_ascii=False)[:_QUOTED_VALUE]}"
        raise UserError(f"{where}: {key!r} {is_wrong}; it must be a text that is not empty.")
    if re.search("[\ud800-\udfff]", text):
        raise UserError(
            f"{where}: {key!r} has half of a character (a lone surrogate, such as \\ud83d), which no "
            "tokenizer takes."
        )
    return text.strip()


def _with_right_types(metadata: dict[str, Any], where: str) -> dict[str, Any]:
    """The metadata with the keys that are used brought to their types; UserError where that cannot be."""
    typed = dict(metadata)
    accepted = typed.get("accepted_answers")
    if isinstance(accepted, (str, int, float)):
        accepted = [accepted]
    accepted = accepted or []
    if not isinstance(accepted, list) or not all(isinstance(text, (str, int, float)) for text in accepted):
        raise UserError(f"{where}: 'metadata.accepted_answers' must be a list of texts.")
    if accepted:
        typed["accepted_answers"] = [str(text) for text in accepted]
    for key in ("original_answer", "field", "probe"):
        if isinstance(typed.get(key), (int, float)):
            typed[key] = str(typed[key])
        elif not isinstance(typed.get(key) or "", str):
            raise UserError(f"{where}: 'metadata.{key}' must be a text.")
    return typed


def require_file(path: str | Path) -> Path:
    """`path` as a Path; UserError unless it is a file."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; a .jsonl file is needed.")
    if not path.exists():
        raise UserError(
            f"{path} does not exist. Give its path, or set WIKI_DATA to the folder that holds datasets/."
        )
    return path


def read_objects(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("<path> line <number>", object) for each line of a JSON Lines file; blank lines are skipped.

    Raises UserError with file, line number and what is wrong, on the first line that is not a JSON object.
    """
    path = require_file(path)
    try:
        # utf-8-sig: editors on Windows put a byte order mark first, which JSON does not allow.
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    where = f"{path} line {number}"
                    yield where, _object(line, where)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text (byte {error.object[error.start]:#04x}); save it as UTF-8."
        ) from None
    except PermissionError:
        raise UserError(f"no permission to read {path}.") from None


def _object(line: str, where: str) -> dict[str, Any]:
    """The JSON object of a line. UserError, beginning with `where`, if it is none."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{where} is not valid JSON ({error.msg}, column {error.colno}).\n"
            f"It starts: {line.strip()[:_QUOTED]}"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets without end
        raise UserError(f"{where} cannot be read ({error}).") from None
    if not isinstance(row, dict):
        raise UserError(
            f"{where} holds a JSON {type(row).__name__}; each line must be an object with "
            "'instruction' and 'output'."
        )
    return row


def read_examples(path: str | Path, side: str | None = None) -> list[Example]:
    """Read a JSON Lines file into a list of Examples, in order.

    side: what every line of the file must be; None for a mixed file, whose lines then each say their own.
    Raises UserError with file, line number and what is wrong, on the first line that is not right.
    """
    examples = [example_of(row, where, side) for where, row in read_objects(path)]
    if not examples:
        raise UserError(f"{path} is empty: it has no examples.")
    return examples


def date_of(example: Example) -> Any:
    """The date of an example's fact as its metadata give it: earliest_date, else latest_date, else None."""
    return example.metadata.get("earliest_date") or example.metadata.get("latest_date") or None


def count_sides(examples: Iterable[Example]) -> dict[str, int]:
    """{RETAIN: n, UNLEARN: n}."""
    counts = Counter(example.side for example in examples)
    return {side: counts[side] for side in SIDES}


def balanced_sample(examples: Sequence[Example], limit: int | None, seed: int = 0) -> list[Example]:
    """At most `limit` examples, as even between the sides as the data allow, in the original order."""
    if limit is None or limit >= len(examples):
        return list(examples)
    chooser = random.Random(seed)
    indices: dict[str, list[int]] = {side: [] for side in SIDES}
    for index, example in enumerate(examples):
        indices[example.side].append(index)
    fewer, more = sorted(SIDES, key=lambda side: len(indices[side]))
    from_fewer = min(len(indices[fewer]), limit // 2)
    chosen = chooser.sample(indices[fewer], from_fewer) + chooser.sample(indices[more], limit - from_fewer)
    return [examples[index] for index in sorted(chosen)]
