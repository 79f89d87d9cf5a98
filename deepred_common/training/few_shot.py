"""A base without a chat template, as a back end that replies: it is shown a few exchanges of ours first.

Under the bare fallback template it goes on as a document does: it writes the next question itself, or goes
round in a loop. After some exchanges it replies as briefly as they do, in its own words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from deepred_common import chat, paths
from deepred_common.examples import CHAT, Message, Prompt, read_examples
from deepred_common.inference.local_model import LocalModel
from deepred_common.inference.protocol import Draw, Draws, Reply
from deepred_common.judging import echo, refusal

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VERSION = 1  # raise it when the same base gets other replies: they are kept under it
EXCHANGES = paths.ROOT / "datasets" / "chat" / "exchanges.jsonl"
# Most tokens of a reply. It is learnt with its end, so there must be room for one.
REPLY_TOKENS = 48
ATTEMPTS = 3  # replies that a prompt gets until one is of use; all but the first are sampled
TEMPERATURE = 0.8  # of those
COPIED_WORDS = 7  # so many in a row as in a reply of an exchange make a reply a copy of it
_MARK = "###"  # what both of the template's marks begin with
_NEXT_TURN = re.compile(rf"(?:\A|\n)\s*{_MARK}")
_WHOLE_SENTENCES = re.compile(r".*[^\d\s][.!?…][\"'”’)]*(?=\s|\Z)", re.DOTALL)


def exchanges() -> list[Message]:
    """The turns that are shown before each prompt."""
    shown = read_examples(EXCHANGES, CHAT)
    return [turn for exchange in shown for turn in chat.answered(exchange.prompt, exchange.output)]


def key() -> list[str]:
    """Texts that tell these replies from others of the same base to the same prompts, for the caches."""
    return [f"few-shot {VERSION}, refusal {refusal.VERSION}, {REPLY_TOKENS} tokens", str(exchanges())]


class FewShotModel(LocalModel):
    """A LocalModel whose replies are whole and of use; a prompt to which it finds none gets an error."""

    def __init__(self, base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> None:
        super().__init__(base, tokenizer, REPLY_TOKENS, batch_size)
        self._exchanges = exchanges()
        self._own_words = {run for turn in self._exchanges for run in _runs_of_words(turn["content"])}
        # A base that was never taught to end a turn begins the next one. Where that is one token, it need not
        # be written further.
        *_, last = chat.encode(tokenizer, f"\n{_MARK}")
        if str(tokenizer.decode([last])).strip() == _MARK:
            self._stops = sorted({*self._stops, last})

    def ask(self, prompts: Iterable[Prompt], draws: Draws | None = None) -> Iterator[tuple[int, Reply]]:
        """As LocalModel.ask; `draws` does not count."""
        conversations = [chat.messages(prompt) for prompt in prompts]
        waiting = list(range(len(conversations)))
        for attempt in range(ATTEMPTS):
            shown: list[Prompt] = [[*self._exchanges, *conversations[index]] for index in waiting]
            # Greedily first; what then said the prompt again may say something else.
            sampled = [Draw(TEMPERATURE, attempt << 16 | index) for index in waiting] if attempt else None
            useless = []
            for place, reply in super().ask(shown, sampled):
                index, text = waiting[place], whole_reply(reply)
                # Of a few copies among hundreds of replies a tuned model learnt to greet with nothing else.
                is_copy = not self._own_words.isdisjoint(_runs_of_words(text))
                if not is_copy and is_usable(text, conversations[index][-1]["content"]):
                    yield index, Reply(text, "stop")
                else:
                    useless.append(index)
            waiting = sorted(useless)
        for index in waiting:
            yield index, Reply(None, error="the base wrote no reply that is of use")


def _runs_of_words(text: str) -> set[tuple[str, ...]]:
    """Each COPIED_WORDS words in a row; of a shorter text, all of its words."""
    words = re.findall(r"\w+", text.lower())
    last = max(1, len(words) - COPIED_WORDS + 1)
    return {tuple(words[start : start + COPIED_WORDS]) for start in range(last)}


def whole_reply(reply: Reply) -> str:
    """The reply up to where the next turn begins; of one that was cut before, its whole sentences."""
    text, *next_turn = _NEXT_TURN.split(reply.text or "", maxsplit=1)
    if next_turn or reply.finish == "stop":
        return text.strip()
    sentences = _WHOLE_SENTENCES.match(text)
    return sentences[0].strip() if sentences else ""


def is_usable(reply: str, message: str) -> bool:
    """False for what should not be learnt: a broken reply, a refusal, or only the message again."""
    return refusal.judge(reply, message) == refusal.ANSWERED and not echo.is_echo(reply, message)
