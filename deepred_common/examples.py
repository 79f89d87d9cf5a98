"""JSON Lines to validated examples: what a training or test line is, and how a bad one is reported."""

import json
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from deepred_common.cli import UserError

VERSION = 1  # raise it when the same line is read as another example: what is made of examples is kept under it
RETAIN = "retain"
UNLEARN = "unlearn"
SIDES = (RETAIN, UNLEARN)
_SIDE_OF_TEMPORAL_CLASS = {"pre_cutoff": RETAIN, "post_cutoff": UNLEARN}


@dataclass(frozen=True)
class Example:
    """One question and the reply it should get.

    side: RETAIN (a fact from before the cutoff, `output` is the answer) or UNLEARN (after it, `output` is a refusal).
    metadata: the line's own, untouched; `accepted_answers` (retain) lists short strings any of which shows a right
    reply, `original_answer` (unlearn) is the true answer that must not leak. where: file and line it was read from.
    """

    instruction: str
    output: str
    side: str
    metadata: dict = field(default_factory=dict)
    where: str = field(default="", compare=False)


def side_of(metadata):
    """RETAIN or UNLEARN, as a line's metadata say; None if they do not."""
    side = metadata.get("dataset_type")
    return side if side in SIDES else _SIDE_OF_TEMPORAL_CLASS.get(str(metadata.get("temporal_class")))


def example_of(row, where, expected_side):
    """The Example of a line's object. UserError, beginning with `where`, if it is none, or not of the side that is expected."""
    texts = {}
    for key in ("instruction", "output"):
        text = row.get(key)
        if not isinstance(text, str) or not text.strip():
            found = "is missing" if key not in row else f"is {json.dumps(text, ensure_ascii=False)[:40]}"
            raise UserError(f"{where}: {key!r} {found}; it must be a text that is not empty.")
        if re.search("[\ud800-\udfff]", text):
            raise UserError(
                f"{where}: {key!r} holds half of a character (a lone surrogate, such as \\ud83d), which no tokenizer takes."
            )
        texts[key] = text.strip()
    # The Alpaca convention of the upstream data: `input` continues the instruction; upstream always leaves it empty.
    extra = row.get("input")
    if isinstance(extra, str) and extra.strip():
        texts["instruction"] += "\n\n" + extra.strip()
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise UserError(f"{where}: 'metadata' must be an object.")
    metadata = _checked(metadata, where)
    side = side_of(metadata)
    if side is None and expected_side is None:
        raise UserError(
            f"{where} does not say its side: metadata.dataset_type must be 'retain' or 'unlearn'."
        )
    if expected_side and side and side != expected_side:
        raise UserError(f"{where} says it is {side!r}, but the file was given as {expected_side} data.")
    return Example(texts["instruction"], texts["output"], side or expected_side, metadata, where)


def _checked(metadata, where):
    """The metadata with the keys that are used brought to their types; UserError where that cannot be."""
    found = dict(metadata)
    if isinstance(found.get("accepted_answers"), (str, int, float)):
        found["accepted_answers"] = [found["accepted_answers"]]
    accepted = found.get("accepted_answers") or []
    if not isinstance(accepted, list) or not all(isinstance(text, (str, int, float)) for text in accepted):
        raise UserError(f"{where}: 'metadata.accepted_answers' must be a list of texts.")
    if accepted:
        found["accepted_answers"] = [str(text) for text in accepted]
    for key in ("original_answer", "field", "probe"):
        if isinstance(found.get(key), (int, float)):
            found[key] = str(found[key])
        elif not isinstance(found.get(key) or "", str):
            raise UserError(f"{where}: 'metadata.{key}' must be a text.")
    return found


def require_file(path):
    """`path` as a Path; UserError unless it is a file."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; a .jsonl file is needed.")
    if not path.exists():
        raise UserError(
            f"{path} does not exist. Give its path, or set WIKI_DATA to the folder that holds datasets/."
        )
    return path


def read_objects(path):
    """Yield ("<path> line <number>", object) for each line of a JSON Lines file; blank lines are passed over.

    Raises UserError naming file, line number and what was found, on the first line that is not a JSON object.
    """
    path = require_file(path)
    try:
        # utf-8-sig: editors on Windows put a byte order mark first, which JSON does not allow.
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield (where := f"{path} line {number}"), _object(line, where)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text (byte {error.object[error.start]:#04x}); save it as UTF-8."
        ) from None
    except PermissionError:
        raise UserError(f"no permission to read {path}.") from None


def _object(line, where):
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        start = line.strip()[:60]
        raise UserError(
            f"{where} is not valid JSON ({error.msg}, column {error.colno}).\nIt starts: {start}"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets without end
        raise UserError(f"{where} cannot be read ({error}).") from None
    if not isinstance(row, dict):
        raise UserError(
            f"{where} holds a JSON {type(row).__name__}; each line must be an object with "
            "'instruction' and 'output'."
        )
    return row


def read_examples(path, side=None):
    """Read a JSON Lines file into a list of Examples, in order.

    side: what every line of the file must be; None for a mixed file, whose lines then each say their own.
    Raises UserError naming file, line number and what was found, on the first line that is not right.
    """
    examples = [example_of(row, where, side) for where, row in read_objects(path)]
    if not examples:
        raise UserError(f"{path} is empty: it has no examples.")
    return examples


def date_of(example):
    """The date of an example's fact as its metadata give it: earliest_date, else latest_date, else None."""
    return example.metadata.get("earliest_date") or example.metadata.get("latest_date") or None


def count_sides(examples):
    """{RETAIN: n, UNLEARN: n}."""
    counts = Counter(example.side for example in examples)
    return {side: counts[side] for side in SIDES}


def balanced_sample(examples, limit, seed=0):
    """At most `limit` examples, as even between the sides as the data allow, seeded, in the original order."""
    if limit is None or limit >= len(examples):
        return list(examples)
    chooser = random.Random(seed)
    indices = {side: [i for i, example in enumerate(examples) if example.side == side] for side in SIDES}
    fewer, more = sorted(SIDES, key=lambda side: len(indices[side]))
    from_fewer = min(len(indices[fewer]), limit // 2)
    chosen = chooser.sample(indices[fewer], from_fewer) + chooser.sample(indices[more], limit - from_fewer)
    return [examples[i] for i in sorted(chosen)]


SEEN_TRAINED, SEEN_HELD_BACK = (
    "trained",
    "held back",
)  # metadata.seen of a test line: was its fact trained on?
