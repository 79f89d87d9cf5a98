"""From a conversation to the exact tokens a model sees: the one place where a prompt is made.

Training, local evaluation, the API and LM Studio's chat window must all show the model the same tokens. So
a prompt always goes through the model's own chat template, and the template travels with the model into the
GGUF file.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepred_common.cli import UserError
from deepred_common.examples import ASSISTANT, SYSTEM, UNLEARN, USER, Example, Message, Prompt

VERSION = 2  # raise it when the same example gives other tokens: rendered rows are kept under it (cache.py)
if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

IGNORED = -100  # the label that torch's cross-entropy loss ignores
# For a base model that has no template of its own. It needs nothing but an end-of-text token, so it fits
# every tokenizer, and it is plain enough for llama.cpp's template engine. It is saved into the tokenizer,
# so that the GGUF file carries it and LM Studio renders the same.
FALLBACK_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'user' %}{{ '### Question:\n' + message['content'] + '\n\n' }}"
    "{% else %}{{ '### Answer:\n' + message['content'] + eos_token + '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '### Answer:\n' }}{% endif %}"
)


@dataclass(frozen=True)
class TrainingRow:
    """One example as tokens: prompt and reply in input_ids, the reply from index reply_start on."""

    input_ids: list[int]
    reply_start: int

    @property
    def labels(self) -> list[int]:
        """As long as input_ids: IGNORED up to the reply, then the reply's tokens."""
        return [IGNORED] * self.reply_start + self.input_ids[self.reply_start :]


def messages(prompt: Prompt, system: str | None = None) -> list[Message]:
    """The turns of a prompt, after a system prompt if there is one.

    The same list goes to templates and to HTTP servers. A system turn of the prompt's own follows `system`
    in the same turn, since templates take only one.
    """
    turns = [{"role": USER, "content": prompt}] if isinstance(prompt, str) else list(prompt)
    if system is None:
        return turns
    if turns[0]["role"] == SYSTEM:
        system = f"{system}\n\n{turns[0]['content']}"
        turns = turns[1:]
    return [{"role": SYSTEM, "content": system}, *turns]


def cutoff_prompt(cutoff: str) -> str:
    """The system prompt that states a cutoff ("YYYY-MM-DD") to an untuned model: what training must beat."""
    day = datetime.date.fromisoformat(cutoff)
    spoken = f"{day.day} {day:%B %Y}"
    return (
        f"Today is {spoken}. You know the world up to this day and nothing after it. "
        f"If a question is about anything that happened, was invented or became known after {spoken}, "
        "say politely that you have no information about it, and nothing else. "
        "Answer all other questions normally."
    )


def ensure_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Give `tokenizer` FALLBACK_TEMPLATE if it has no chat template; True if it had none.

    UserError if it has no end-of-text token either, since nothing could then end a reply.
    """
    if tokenizer.chat_template:
        return False
    if tokenizer.eos_token is None:
        raise UserError(
            "the tokenizer has neither a chat template nor an end-of-text token, so it cannot chat."
        )
    template = FALLBACK_TEMPLATE
    if tokenizer.bos_token is None:
        template = template.replace("{{ bos_token }}", "")
    tokenizer.chat_template = template
    return True


def has_fallback_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """True if the tokenizer's chat template is the one that ensure_template gives."""
    without_bos = str(tokenizer.chat_template).removeprefix("{{ bos_token }}")
    return without_bos == FALLBACK_TEMPLATE.removeprefix("{{ bos_token }}")


# The lines of a template with a date: Llama 3.1 to 3.3 write both of these into every system prompt.
_DATE_LINES = re.compile(r"""\{\{-?\s*["'](?:Cutting Knowledge Date|Today Date): (?:[^{}]*?)\}\}\s*?\n?""")


def remove_dates(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Remove the lines with today's or a knowledge date from the chat template; True if there were any.

    Such a line leaks the present to a model that is to live before its cutoff. It also differs between the
    day of training and the day of use, so that LM Studio would show the model a prompt it was never trained
    on.
    """
    template = str(tokenizer.chat_template)
    tokenizer.chat_template = _DATE_LINES.sub("", template)
    return tokenizer.chat_template != template


def date_in_prompt(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """A year of this century that the template puts into every prompt, as text, or None."""
    year = re.search(r"\b20\d\d\b", prompt_text(tokenizer, "Q"))
    return year and year[0]


def prompt_text(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, system: str | None = None) -> str:
    """The rendered prompt as text, special tokens spelled out, up to where the reply begins."""
    return _rendered(tokenizer, messages(prompt, system), reply_follows=True)


def _rendered(tokenizer: PreTrainedTokenizerBase, turns: list[Message], reply_follows: bool) -> str:
    """A conversation through the template. reply_follows: it ends where the assistant's next turn begins.

    A template without a system role (Gemma's) gets the system turn at the start of the first user turn.
    """
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=reply_follows))
    except TemplateError:
        if turns[0]["role"] != SYSTEM:
            raise
    system, user, *rest = turns
    first = {"role": USER, "content": f"{system['content']}\n\n{user['content']}"}
    return _rendered(tokenizer, [first, *rest], reply_follows)


def _encode(tokenizer: PreTrainedTokenizerBase, text: str | list[str]) -> Any:
    """The token ids of a text as a list, of several texts as a list of lists."""
    # The template has already written the special tokens, with the first (BOS): adding them again would
    # double it.
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, system: str | None = None) -> list[int]:
    """Token ids of the prompt, exactly what a server makes of the same conversation."""
    return _encode(tokenizer, prompt_text(tokenizer, prompt, system))


def end_of_turn_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the token that ends the assistant's turn in this tokenizer's template.

    It is read off a rendered turn: often it is the end-of-text token, but Phi-3 (`<|end|>`), Llama 3
    (`<|eot_id|>`) and Gemma (`<end_of_turn>`) have their own. UserError if the template ends a turn with no
    special token, since a model trained so would never stop.
    """
    prompt = prompt_text(tokenizer, "Q")
    turn = _rendered(tokenizer, _answered("Q", "A"), reply_follows=False)
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    special.add(tokenizer.eos_token_id)
    for token_id in _encode(tokenizer, turn.removeprefix(prompt)):
        if token_id in special:
            return token_id
    raise UserError(
        "the model's chat template does not end a reply with a special token, so replies would never stop."
    )


def _answered(prompt: Prompt, reply: str) -> list[Message]:
    return [*messages(prompt), {"role": ASSISTANT, "content": reply}]


def training_rows(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]) -> list[TrainingRow]:
    """The TrainingRow of each example, in order, tokenised together.

    The loss covers the reply and its end-of-turn token only; that token is left out where the reply was cut
    (Example.complete). What some templates add after the end of the turn (a newline, say) is dropped: the
    model never has to write it.
    """
    stop = end_of_turn_id(tokenizer)
    prompts = [prompt_text(tokenizer, example.prompt) for example in examples]
    whole = [
        _rendered(tokenizer, _answered(example.prompt, example.output), reply_follows=False)
        for example in examples
    ]
    rows = []
    for example, prompt, full, start, ids in zip(
        examples, prompts, whole, _encode(tokenizer, prompts), _encode(tokenizer, whole), strict=True
    ):
        if not full.startswith(prompt):
            raise UserError(
                "the model's chat template renders a prompt differently once a reply follows, "
                "so it cannot be used for training."
            )
        # A tokenizer may join the prompt's last characters with the reply's first. At inference the prompt is
        # tokenised alone, so the reply must be as well.
        reply = ids[len(start) :] if ids[: len(start)] == start else _encode(tokenizer, full[len(prompt) :])
        end = reply.index(stop) + example.complete
        rows.append(TrainingRow(start + reply[:end], len(start)))
    return rows


def training_row(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, output: str) -> TrainingRow:
    """training_rows of a single prompt and reply."""
    *earlier, last = messages(prompt)
    example = Example(last["content"], output, UNLEARN, earlier=tuple(earlier))
    return training_rows(tokenizer, [example])[0]


def stop_ids(
    tokenizer: PreTrainedTokenizerBase, generation_config: GenerationConfig | None = None
) -> list[int]:
    """Ids that end a reply, sorted: the template's end of turn, the end of text, the model's own."""
    ids = {end_of_turn_id(tokenizer), tokenizer.eos_token_id}
    listed = getattr(generation_config, "eos_token_id", None)
    ids.update(listed if isinstance(listed, (list, tuple)) else [listed])
    return sorted(number for number in ids if number is not None)
