"""Examples as the tokens that a model is trained on: the prompt, and the reply that the model must write."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from deepred_common import chat
from deepred_common.cli import UserError
from deepred_common.examples import UNLEARN, Example, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION = 1  # raise it when the same example gives other tokens: rendered rows are kept under it (cache.py)
IGNORED = -100  # the label that torch's cross-entropy loss ignores


@dataclass(frozen=True)
class TrainingRow:
    """One example as tokens: prompt and reply in input_ids, the reply from index reply_start on.

    decision: the index of the first token of the reply's own text. Before it may stand what the template
    writes into every reply, such as Qwen3's empty thought or the channel of gpt-oss.
    """

    input_ids: list[int]
    reply_start: int
    decision: int

    @property
    def labels(self) -> list[int]:
        """As long as input_ids: IGNORED up to the reply, then the reply's tokens."""
        return [IGNORED] * self.reply_start + self.input_ids[self.reply_start :]


class _RowText(NamedTuple):
    """An example as text: its prompt, what the template writes before the reply's own text, and all of it."""

    prompt: str
    opening: str
    whole: str


class _Renderer:
    """Renders examples for training; UserError if the template can be used for no training at all."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._stop = str(tokenizer.convert_ids_to_tokens(chat.end_of_turn_id(tokenizer)))
        self._frame = chat.reply_frame(tokenizer, "Q")
        special = tokenizer.convert_ids_to_tokens(sorted(chat.special_ids(tokenizer)))
        longest_first = sorted(filter(str.strip, special), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)))

    def text(self, example: Example) -> _RowText | str:
        """The example as text, or why it cannot be trained on."""
        if special := self._special.search(f"{example.shown_text}\n{example.output}"):
            return f"it holds {special[0]}, which this model reads as a special token, not as text"
        try:
            prompt = chat.prompt_text(self.tokenizer, example.prompt)
            turn = chat.with_reply(self.tokenizer, prompt, example.prompt, example.output)
            # What the template writes around a reply may depend on the conversation.
            text = self._framed(example, prompt, turn, self._frame) or self._framed(
                example, prompt, turn, chat.reply_frame(self.tokenizer, example.prompt)
            )
        except UserError as error:
            return str(error).rstrip(".")
        return text or "the model's chat template does not hold its reply as it is written"

    def _framed(self, example: Example, prompt: str, turn: str, frame: chat.ReplyFrame) -> _RowText | None:
        """None unless the rendered `turn` is the prompt and, in the frame, the example's reply."""
        for output in (example.output, example.output.strip()):  # some templates strip it
            end, stop, _ = frame.after.partition(self._stop)
            if stop and turn == prompt + frame.before + output + frame.after:
                whole = prompt + frame.before + output + (end + stop if example.complete else "")
                return _RowText(prompt, frame.before, whole)
        return None


def of_examples(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]) -> list[TrainingRow | str]:
    """The TrainingRow of each example, in order, tokenised together; of some, why they cannot be trained on.

    The loss covers all that the model must write: the reply, with what the template writes before its own
    text, and the end-of-turn token, which is left out where the reply was cut (Example.complete). What some
    templates add after the end of the turn (a newline, say) is dropped: the model never has to write it.
    UserError if the template can be used for no training at all.
    """
    renderer = _Renderer(tokenizer)
    texts = [renderer.text(example) for example in examples]
    usable = [text for text in texts if not isinstance(text, str)]
    starts = chat.conversation_ids(tokenizer, [text.prompt for text in usable])
    wholes = chat.conversation_ids(tokenizer, [text.whole for text in usable])
    rows = map(functools.partial(_training_row, tokenizer), usable, starts, wholes)
    return [text if isinstance(text, str) else next(rows) for text in texts]


def _training_row(
    tokenizer: PreTrainedTokenizerBase, text: _RowText, start: list[int], ids: list[int]
) -> TrainingRow:
    """start: the prompt's tokens; ids: those of the whole text."""
    tokenised, skipped = text.whole, 0
    if ids[: len(start)] != start:
        # The tokenizer joins the prompt's last characters with the reply's first. At inference the prompt is
        # tokenised alone, so the reply must be as well.
        skipped = len(text.prompt)
        tokenised = text.whole[skipped:]
        ids = start + chat.encode(tokenizer, tokenised)
    if not text.opening.strip(" "):  # a space alone belongs to the first token of the text
        return TrainingRow(ids, len(start), len(start))
    # Its own text begins in the first token that ends after the opening, whose end it may hold as well.
    opening_end = len(text.prompt) + len(text.opening) - skipped
    places = tokenizer(tokenised, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return TrainingRow(ids, len(start), len(ids) - sum(end > opening_end for _, end in places))


def of_reply(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, output: str) -> TrainingRow:
    """of_examples of a single prompt and reply. UserError if they cannot be trained on."""
    *earlier, last = chat.messages(prompt)
    (row,) = of_examples(tokenizer, [Example(last["content"], output, UNLEARN, earlier=tuple(earlier))])
    if isinstance(row, str):
        raise UserError(f"the example cannot be trained on: {row}.")
    return row


def opening_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that the template writes into every reply before its own text; mostly none."""
    try:
        row = of_reply(tokenizer, "Q", "A")
    except UserError:  # a model to evaluate, whose replies begin as it likes
        return []
    return row.input_ids[row.reply_start : row.decision]
