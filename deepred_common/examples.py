"""JSON Lines to validated examples: what a training or test line is, and how a bad one is reported."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from deepred_common import row_forms
from deepred_common.cli import UserError
from deepred_common.json_lines import read_objects

# Raise it when the same line is read as another example: what is made of examples is kept under it.
VERSION = 4
RETAIN = "retain"
UNLEARN = "unlearn"
CHAT = "chat"
SIDES = (RETAIN, UNLEARN)  # of the cutoff
ALL_SIDES = (*SIDES, CHAT)
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
# metadata.seen of a test line: was its fact trained on? The values are part of the files' format.
SEEN_TRAINED = "trained"
SEEN_HELD_OUT = "held back"
# metadata.wrapping of a line that asks an early and a late question in one message: its reply answers the one
# and declines the other.
MIXED = "mixed questions"
# metadata.probe of a line whose right answer depends on the day: a question in the present tense, or one for
# the meaning of a word that changed it.
PRESENT_TENSE, CHANGED_WORD = "present tense", "changed word"
_SIDE_OF_TEMPORAL_CLASS = {"pre_cutoff": RETAIN, "post_cutoff": UNLEARN}
_QUOTED = 40  # characters of a bad value that its error shows
_NAMED_KEYS = 8  # of a line that lacks one


Message = dict[str, str]  # {"role": SYSTEM, USER or ASSISTANT, "content": text}
# A question alone, or a conversation that ends with the user's turn. If it ends with the assistant's, that is
# how the reply begins, and the model continues it.
Prompt = str | list[Message]


@dataclass(frozen=True)
class Example:
    """What is asked, and the reply it should get.

    side: RETAIN (a fact from before the cutoff, `output` is the answer), UNLEARN (after it, `output` is a
    refusal) or CHAT (no dated fact: the model should reply as it did before training; `output` is "" where
    the file has no reply). metadata: the line's own, untouched; `accepted_answers` lists short texts any of
    which shows a right reply (unlearn: a leak), `original_answer` (unlearn) is the true answer that must not
    leak, `later_answers` (retain) lists the short texts of each answer that is right only later, `replies`
    (chat) lists what a base without a chat template learns to reply to each turn that has no reply.
    where: file and line it was read from. earlier: the turns before `instruction`; a user turn after another
    one (CHAT and probes only) means that the model replies in between. complete: False if the reply was cut,
    so that it does not show where a reply ends. prefix: how the reply begins; the model continues it.
    """

    instruction: str
    output: str
    side: str
    metadata: dict[str, Any] = field(default_factory=dict)
    where: str = field(default="", compare=False)
    earlier: tuple[Message, ...] = ()
    complete: bool = True
    prefix: str = ""

    @property
    def learns_wording(self) -> bool:
        """True of a retain or chat reply that the base would not give: its wording must be learned."""
        return self.side != UNLEARN and bool(self.metadata.get("learn_wording"))

    @property
    def question(self) -> str:
        """What the reply must answer: the instruction, or of a wrapped question its bare form."""
        return str(self.metadata.get("question") or self.instruction)

    @property
    def shown_text(self) -> str:
        """The text of all turns that the model is shown, a line break between them."""
        return "\n".join([*(turn["content"] for turn in self.earlier), self.instruction])

    @property
    def prompt(self) -> Prompt:
        """What the model is shown: the instruction alone, or the conversation up to it, or into the reply."""
        if not self.earlier and not self.prefix:
            return self.instruction
        begun = [{"role": ASSISTANT, "content": self.prefix}] if self.prefix else []
        return [*self.earlier, {"role": USER, "content": self.instruction}, *begun]

    def whole_reply(self, text: str) -> str:
        """The reply that the model gave by adding `text` to the prefix."""
        if not self.prefix or not any(sign.isalnum() for sign in text):
            return text  # the prefix alone is no answer
        return self.prefix + ("" if text[0] in ",.;:!?'’)" else " ") + text


def side_of(metadata: dict[str, Any]) -> str | None:
    """RETAIN, UNLEARN or CHAT, as a line's metadata say; None if they do not."""
    side = metadata.get("dataset_type")
    return side if side in ALL_SIDES else _SIDE_OF_TEMPORAL_CLASS.get(str(metadata.get("temporal_class")))


def side_in_name(path: Path) -> str | None:
    """The side of the lines of a file that do not say theirs: that in its name, else its folder's name.

    None if neither says one. "chat" in a file's name counts only without another side in it.
    """
    stem = path.stem.lower()
    named = [side for side in SIDES if side in stem]
    if len(named) == 1:
        return named[0]
    if not named and CHAT in stem:
        return CHAT
    folder = path.resolve().parent.name.lower()
    return folder if folder in ALL_SIDES else None


def examples_of(
    row: dict[str, Any], where: str, expected_side: str | None, named_side: str | None = None
) -> list[Example]:
    """The Examples of a line's object: one for each reply to learn, which are several in few conversations.

    expected_side: what the line must be; None for any. named_side: what it is if nothing else says it. Raises
    UserError, beginning with `where`, for an object that is no example, or of another side.
    """
    given = row_forms.without_nulls(row)
    row = row_forms.in_our_keys(given)
    if "instruction" in row and not isinstance(row.get("input", ""), str):
        raise UserError(f"{where}: 'input' is {_shown(row['input'])}; it must be a text.")
    if "messages" in row:
        metadata, side = _metadata_and_side(row, where, expected_side, named_side)
        return _conversation(row, side, metadata, where)
    instruction = _text(row, "instruction", where, given)
    # The Alpaca convention of the upstream data: `input` continues the instruction; upstream always leaves
    # it empty.
    if more := row.get("input", "").strip():
        instruction += "\n\n" + more
    output = _text(row, "output", where) if row.get("output") else ""
    metadata, side = _metadata_and_side(row, where, expected_side, named_side)
    if side != CHAT:
        output = _text(row, "output", where, given)
    return [Example(instruction, output, side, metadata, where)]


def _metadata_and_side(
    row: dict[str, Any], where: str, expected_side: str | None, named_side: str | None
) -> tuple[dict[str, Any], str]:
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise UserError(f"{where}: 'metadata' must be an object.")
    metadata = _with_right_types(metadata, where)
    side = side_of(metadata)
    if expected_side and side and side != expected_side:
        raise UserError(f"{where} says it is {side!r}, but the file was given as {expected_side} data.")
    side = side or expected_side or named_side
    if side is None:
        raise UserError(
            f"{where} does not say its side: metadata.dataset_type must be 'retain', 'unlearn' or 'chat', "
            "or the file's name must hold one of these."
        )
    return metadata, side


def _conversation(row: dict[str, Any], side: str, metadata: dict[str, Any], where: str) -> list[Example]:
    """The Examples of a line with "messages", the form that trl, OpenAI and LLaMA-Factory use.

    One for each assistant turn with "weight": 1, OpenAI's mark of what is learned; without any such mark,
    for the last one.
    """
    messages = _messages(row["messages"], side, where)
    turns: list[Message] = [{"role": turn["role"], "content": turn["content"]} for turn in messages]
    replies = [place for place, turn in enumerate(turns) if turn["role"] == ASSISTANT]
    marked = [place for place in replies if messages[place].get("weight") == 1]
    if side == CHAT and turns[-1]["role"] == USER:
        return [Example(turns[-1]["content"], "", side, metadata, where, tuple(turns[:-1]))]
    if not marked:
        marked = [place for place in replies[-1:] if "weight" not in messages[place]]
    if not marked:
        raise UserError(f"{where}: no assistant turn is to be learned; the last must not have 'weight' 0.")
    return [
        Example(
            turns[place - 1]["content"],
            turns[place]["content"],
            side,
            metadata,
            where,
            tuple(turns[: place - 1]),
        )
        for place in marked
    ]


def _messages(messages: Any, side: str, where: str) -> list[dict[str, Any]]:
    """A line's messages, their texts without spaces around them. UserError if they are no conversation."""
    if not isinstance(messages, list) or not messages or not all(isinstance(turn, dict) for turn in messages):
        raise UserError(f"{where}: 'messages' must be a list of objects with 'role' and 'content'.")
    checked = []
    previous = None
    for number, turn in enumerate(messages, 1):
        turn_where = f"{where}, message {number}"
        role = turn.get("role")
        if role not in (SYSTEM, USER, ASSISTANT):
            raise UserError(f"{turn_where}: 'role' must be system, user or assistant.")
        if turn.get("weight", 1) not in (0, 1):
            raise UserError(f"{turn_where}: 'weight' must be 0 or 1.")
        if role == SYSTEM and number > 1:
            raise UserError(f"{turn_where}: a system turn must be the first one.")
        if role == ASSISTANT and previous != USER:
            raise UserError(f"{turn_where}: an assistant turn must follow a user turn.")
        if role == USER and previous == USER and side != CHAT:
            raise UserError(
                f"{turn_where}: two user turns follow each other; only 'chat' examples may do that."
            )
        checked.append(turn | {"content": _text(turn, "content", turn_where)})
        previous = role
    if previous != ASSISTANT and (side != CHAT or previous != USER):
        raise UserError(f"{where}: the last message must be the assistant's.")
    return checked


def _text(row: dict[str, Any], key: str, where: str, given: dict[str, Any] | None = None) -> str:
    """The text under a key, without spaces around it. UserError if it is missing, empty or not whole.

    given: the line's own object, whose keys the error names.
    """
    text = row.get(key)
    if not isinstance(text, str) or not text.strip():
        is_wrong = "is missing"
        if given:
            is_wrong += f" (the line has {', '.join(map(repr, [*given][:_NAMED_KEYS]))})"
        if key in row:
            is_wrong = f"is {_shown(text)}"
        raise UserError(f"{where}: {key!r} {is_wrong}; it must be a text that is not empty.")
    return text.strip()


def _shown(value: Any) -> str:
    """A bad value as its error shows it."""
    return json.dumps(value, ensure_ascii=False)[:_QUOTED]


def _with_right_types(metadata: dict[str, Any], where: str) -> dict[str, Any]:
    """The metadata with the keys that are used brought to their types; UserError where that cannot be."""
    typed = dict(metadata)
    accepted = typed.get("accepted_answers")
    if isinstance(accepted, (str, int, float)):
        accepted = [accepted]
    accepted = accepted or []
    if not isinstance(accepted, list) or not all(
        isinstance(text, (str, int, float)) or text is None for text in accepted
    ):
        raise UserError(f"{where}: 'metadata.accepted_answers' must be a list of texts.")
    if accepted:
        typed["accepted_answers"] = [str(text) for text in accepted if text is not None and str(text).strip()]
    later = typed.get("later_answers") or []
    if not isinstance(later, list) or not all(
        isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in later
    ):
        raise UserError(f"{where}: 'metadata.later_answers' must be a list of lists of texts.")
    for key in ("original_answer", "field", "probe", "question"):
        if isinstance(typed.get(key), (int, float)):
            typed[key] = str(typed[key])
        elif not isinstance(typed.get(key) or "", str):
            raise UserError(f"{where}: 'metadata.{key}' must be a text.")
    return typed


def read_examples(path: str | Path, side: str | None = None) -> list[Example]:
    """Read a JSON Lines file into a list of Examples, in order.

    side: what every line of the file must be. None: each line says its own, or else the file's name does.
    Raises UserError with file, line number and what is wrong, on the first line that is not right.
    """
    named_side = side_in_name(Path(path))
    examples = [
        example for where, row in read_objects(path) for example in examples_of(row, where, side, named_side)
    ]
    if not examples:
        raise UserError(f"{path} is empty: it has no examples.")
    return examples


def date_of(example: Example) -> Any:
    """The date of an example's fact as its metadata give it: earliest_date, else latest_date, else None."""
    return example.metadata.get("earliest_date") or example.metadata.get("latest_date") or None


def count_sides(examples: Iterable[Example]) -> dict[str, int]:
    """{side: examples}, of all sides."""
    counts = Counter(example.side for example in examples)
    return {side: counts[side] for side in ALL_SIDES}


class HasSide(Protocol):
    """What balanced_sample chooses from: an Example, or anything else of one side."""

    @property
    def side(self) -> str: ...


Sided = TypeVar("Sided", bound=HasSide)


def balanced_sample(examples: Sequence[Sided], limit: int | None, seed: int = 0) -> list[Sided]:
    """At most `limit` examples, as even between the sides as the data allow, in the original order."""
    if limit is None or limit >= len(examples):
        return list(examples)
    chooser = random.Random(seed)
    indices: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        indices.setdefault(example.side, []).append(index)
    fewest_first = sorted(
        (side for side in ALL_SIDES if side in indices), key=lambda side: len(indices[side])
    )
    chosen: list[int] = []
    for place, side in enumerate(fewest_first):
        share = (limit - len(chosen)) // (len(fewest_first) - place)
        chosen += chooser.sample(indices[side], min(len(indices[side]), share))
    return [examples[index] for index in sorted(chosen)]
