"""Instruction to the exact tokens a model sees: the one place where a prompt is made.

Training, local evaluation, the API route and LM Studio's chat window must all show the model the same tokens. So a
prompt is always one user message through the model's own chat template, and the template travels with the model into
the GGUF.
"""

import datetime
from dataclasses import dataclass

from deepred_common.cli import UserError

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
    """One example as tokens. input_ids and labels have the same length; labels are IGNORED up to the reply."""

    input_ids: list
    labels: list


def messages(instruction, system=None):
    """The chat that asks `instruction`: one user turn, after a system prompt if there is one.

    The same list goes to templates and to HTTP servers.
    """
    return [{"role": "system", "content": system}] * (system is not None) + [{"role": "user", "content": instruction}]


def cutoff_prompt(cutoff):
    """The system prompt that states a cutoff ("YYYY-MM-DD") to an untuned model: what tuning must beat."""
    day = datetime.date.fromisoformat(cutoff)
    spoken = f"{day.day} {day:%B %Y}"
    return (f"Today is {spoken}. You know the world up to this day and nothing after it. If a question is about anything that happened, "
            f"was invented or became known after {spoken}, say politely that you have no information about it, and nothing else. "
            "Answer all other questions normally.")


def ensure_template(tokenizer):
    """Give `tokenizer` FALLBACK_TEMPLATE if it has no chat template; True if it was given.

    Raises UserError if it has no end-of-text token either, since nothing could then end a reply.
    """
    if tokenizer.chat_template:
        return False
    if tokenizer.eos_token is None:
        raise UserError("the tokenizer has neither a chat template nor an end-of-text token; it cannot be used to chat.")
    template = FALLBACK_TEMPLATE
    if tokenizer.bos_token is None:
        template = template.replace("{{ bos_token }}", "")
    tokenizer.chat_template = template
    return True


def prompt_text(tokenizer, instruction, system=None):
    """The rendered prompt as text, special tokens spelled out, up to where the reply begins.

    A template that knows no system role (Gemma's) gets the system prompt at the head of the user turn.
    """
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(messages(instruction, system), tokenize=False, add_generation_prompt=True)
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
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special} | {tokenizer.eos_token_id}
    for token_id in _encode(tokenizer, turn.removeprefix(prompt)):
        if token_id in special:
            return token_id
    raise UserError("the model's chat template does not end a reply with a special token, so replies would never stop.")


def training_row(tokenizer, instruction, output, stop=None):
    """Render one example; the loss falls on the reply and its end-of-turn token only.

    stop: the tokenizer's end_of_turn_id, if the caller has it already.
    What some templates add after the end of the turn (a newline, say) is left out: the model is never asked for it.
    """
    prompt = prompt_text(tokenizer, instruction)
    full = tokenizer.apply_chat_template(
        [*messages(instruction), {"role": "assistant", "content": output}], tokenize=False
    )
    if not full.startswith(prompt):
        raise UserError("the model's chat template renders a prompt differently once a reply follows; it cannot be trained.")
    start = _encode(tokenizer, prompt)
    whole = _encode(tokenizer, full)
    # A tokenizer may join the prompt's last characters with the reply's first. At inference the prompt is tokenised
    # alone, so the reply must be as well.
    reply = whole[len(start):] if whole[: len(start)] == start else _encode(tokenizer, full[len(prompt):])
    if stop is None:
        stop = end_of_turn_id(tokenizer)
    reply = reply[: reply.index(stop) + 1]
    return TrainingRow(start + reply, [IGNORED] * len(start) + reply)


def training_rows(tokenizer, examples, max_length, progress_bar=iter):
    """Render `examples` (of records.Example); return (rows, number left out).

    A row longer than `max_length` tokens is left out rather than cut: a cut reply would teach the model not to stop.
    The caller says the number aloud. progress_bar: wraps the iterable, for instance tqdm.
    """
    stop = end_of_turn_id(tokenizer)
    rows = [training_row(tokenizer, example.instruction, example.output, stop) for example in progress_bar(examples)]
    kept = [row for row in rows if len(row.input_ids) <= max_length]
    return kept, len(rows) - len(kept)


def stop_ids(tokenizer, generation_config=None):
    """Ids that end a reply: the template's end of turn and the end of text, and what the model itself lists."""
    ids = {end_of_turn_id(tokenizer), tokenizer.eos_token_id}
    listed = getattr(generation_config, "eos_token_id", None)
    ids.update(listed if isinstance(listed, (list, tuple)) else [listed])
    return sorted(i for i in ids if i is not None)
