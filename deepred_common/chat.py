"""Instruction to the exact tokens a model sees: the one place where a prompt is made.

Training, local evaluation, the API route and LM Studio's chat window must all show the model the same tokens. So a
prompt is always one user message through the model's own chat template, and the template travels with the model into
the GGUF.
"""

import datetime
import re
from dataclasses import dataclass

from deepred_common.cli import UserError
from deepred_common.examples import UNLEARN, Example

VERSION = 1  # raise it when the same example gives other tokens: rendered rows are kept under it (cache.py)
IGNORED = -100  # the label that the cross-entropy loss passes over
# For a base model that has no template of its own. It asks for nothing but an end-of-text token, so it fits every
# tokenizer, and it is plain enough for llama.cpp's template engine. It is saved into the tokenizer, so that the GGUF
# carries it and LM Studio renders the same.
FALLBACK_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'user' %}{{ '### Question:\n' + message['content'] + '\n\n' }}"
    "{% else %}{{ '### Answer:\n' + message['content'] + eos_token + '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '### Answer:\n' }}{% endif %}"
)


@dataclass(frozen=True)
class TrainingRow:
    """One example as tokens: prompt and reply in input_ids, the reply from place reply_start on."""

    input_ids: list
    reply_start: int

    @property
    def labels(self):
        """As long as input_ids: IGNORED up to the reply, then its tokens."""
        return [IGNORED] * self.reply_start + self.input_ids[self.reply_start :]


def messages(instruction, system=None):
    """The chat that asks `instruction`: one user turn, after a system prompt if there is one.

    The same list goes to templates and to HTTP servers.
    """
    return [{"role": "system", "content": system}] * (system is not None) + [
        {"role": "user", "content": instruction}
    ]


def cutoff_prompt(cutoff):
    """The system prompt that states a cutoff ("YYYY-MM-DD") to an untuned model: what tuning must beat."""
    day = datetime.date.fromisoformat(cutoff)
    spoken = f"{day.day} {day:%B %Y}"
    return (
        f"Today is {spoken}. You know the world up to this day and nothing after it. If a question is about anything that happened, "
        f"was invented or became known after {spoken}, say politely that you have no information about it, and nothing else. "
        "Answer all other questions normally."
    )


def ensure_template(tokenizer):
    """Give `tokenizer` FALLBACK_TEMPLATE if it has no chat template; True if it was given.

    Raises UserError if it has no end-of-text token either, since nothing could then end a reply.
    """
    if tokenizer.chat_template:
        return False
    if tokenizer.eos_token is None:
        raise UserError(
            "the tokenizer has neither a chat template nor an end-of-text token; it cannot be used to chat."
        )
    template = FALLBACK_TEMPLATE
    if tokenizer.bos_token is None:
        template = template.replace("{{ bos_token }}", "")
    tokenizer.chat_template = template
    return True


# What a template says of today or of the model's own time. Llama 3.1 to 3.3 write both into every system prompt.
_DATE_LINES = re.compile(r"""\{\{-?\s*["'](?:Cutting Knowledge Date|Today Date): (?:[^{}]*?)\}\}\s*?\n?""")


def remove_dates(tokenizer):
    """Take the lines that tell the present date, or a knowledge date, out of the chat template; True if there were any.

    Such a line is a leak of the present to a model that is to live before its cutoff. It also differs between the day
    of training and the day of use, so that LM Studio would show the model a prompt it was never trained on.
    """
    template = tokenizer.chat_template
    tokenizer.chat_template = _DATE_LINES.sub("", template)
    return tokenizer.chat_template != template


def date_in_prompt(tokenizer):
    """A year of this century that the template puts into every prompt, as text, or None."""
    found = re.search(r"\b20\d\d\b", prompt_text(tokenizer, "Q"))
    return found and found[0]


def prompt_text(tokenizer, instruction, system=None):
    """The rendered prompt as text, special tokens spelled out, up to where the reply begins.

    A template that knows no system role (Gemma's) gets the system prompt at the head of the user turn.
    """
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(
            messages(instruction, system), tokenize=False, add_generation_prompt=True
        )
    except TemplateError:
        if system is None:
            raise
        return prompt_text(tokenizer, f"{system}\n\n{instruction}")


def _encode(tokenizer, text):
    # The template has already written the special tokens, the first (BOS) included: adding them again would double it.
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def prompt_ids(tokenizer, instruction, system=None):
    """Token ids of the prompt, exactly what a server makes of the same chat."""
    return _encode(tokenizer, prompt_text(tokenizer, instruction, system))


def end_of_turn_id(tokenizer):
    """The id of the token that ends the assistant's turn in this tokenizer's template.

    It is read off a rendered turn: often it is the end-of-text token, but Phi-3 (`<|end|>`), Llama 3 (`<|eot_id|>`)
    and Gemma (`<end_of_turn>`) have one of their own. UserError if the template ends a turn with no special token,
    since a model trained so would never stop.
    """
    prompt = prompt_text(tokenizer, "Q")
    turn = tokenizer.apply_chat_template(
        [*messages("Q"), {"role": "assistant", "content": "A"}], tokenize=False
    )
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special} | {
        tokenizer.eos_token_id
    }
    for token_id in _encode(tokenizer, turn.removeprefix(prompt)):
        if token_id in special:
            return token_id
    raise UserError(
        "the model's chat template does not end a reply with a special token, so replies would never stop."
    )


def training_rows(tokenizer, examples):
    """The TrainingRow of each example (examples.Example), in order, rendered and tokenised together.

    The loss falls on the reply and its end-of-turn token only. What some templates add after the end of the turn (a
    newline, say) is left out: the model is never asked for it.
    """
    stop = end_of_turn_id(tokenizer)
    chats = [messages(example.instruction) for example in examples]
    prompts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(
        [
            [*chat, {"role": "assistant", "content": example.output}]
            for chat, example in zip(chats, examples, strict=True)
        ],
        tokenize=False,
    )
    rows = []
    for prompt, full, start, ids in zip(
        prompts, whole, _encode(tokenizer, prompts), _encode(tokenizer, whole), strict=True
    ):
        if not full.startswith(prompt):
            raise UserError(
                "the model's chat template renders a prompt differently once a reply follows; it cannot be trained."
            )
        # A tokenizer may join the prompt's last characters with the reply's first. At inference the prompt is tokenised
        # alone, so the reply must be as well.
        reply = ids[len(start) :] if ids[: len(start)] == start else _encode(tokenizer, full[len(prompt) :])
        rows.append(TrainingRow(start + reply[: reply.index(stop) + 1], len(start)))
    return rows


def training_row(tokenizer, instruction, output):
    """training_rows of a single question and reply."""
    return training_rows(tokenizer, [Example(instruction, output, UNLEARN)])[0]


def stop_ids(tokenizer, generation_config=None):
    """Ids that end a reply: the template's end of turn and the end of text, and what the model itself lists."""
    ids = {end_of_turn_id(tokenizer), tokenizer.eos_token_id}
    listed = getattr(generation_config, "eos_token_id", None)
    ids.update(listed if isinstance(listed, (list, tuple)) else [listed])
    return sorted(i for i in ids if i is not None)
