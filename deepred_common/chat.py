"""From a conversation to the exact tokens a model sees: the one place where a prompt is made.

Training, local evaluation, the API and LM Studio's chat window must all show the model the same tokens. So
a prompt always goes through the model's own chat template, and the template travels with the model into the
GGUF file.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from deepred_common import thought
from deepred_common.cli import UserError
from deepred_common.examples import ASSISTANT, SYSTEM, USER, Message, Prompt

# Raise it when an example that is trained on gives other tokens: rendered rows are kept under it (cache.py).
# A change to prompts that are only evaluated (of a begun reply, say) raises it where it concerns all models,
# not a single family: results and journals of another version cannot be resumed. The next is 7; 6 was used
# for a day.
VERSION = 5
if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

_PLACEHOLDER = "⟦reply⟧"  # a text that no chat template holds, to find where a reply's own text goes
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


def prompt_text(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, system: str | None = None) -> str:
    """The rendered prompt as text, special tokens spelled out, up to where the reply begins or goes on.

    If the prompt begins the reply, that stands after what the template writes into every reply, and a thought
    is closed before it, as in llama.cpp's server.
    """
    turns = messages(prompt, system)
    if not begins_reply(turns):
        return rendered(tokenizer, turns, reply_follows=True)
    *before, begun = turns
    start = rendered(tokenizer, before, reply_follows=True)
    # A template that leaves thoughts out of what was said renders `before` otherwise once a reply follows.
    opening = "\n</think>\n\n" if thought.opened_by(start) else ""
    # Another moves the system's text then (Mistral's v0.3), but writes the same before a reply without it.
    for shown in [before, before[1:]] if before[0]["role"] == SYSTEM else [before]:
        with contextlib.suppress(UserError):
            opening = reply_frame(tokenizer, shown).before
            break
    return start + opening + begun["content"]


def begins_reply(prompt: Prompt) -> bool:
    """True if the prompt ends with the beginning of a reply, which the model is to continue."""
    return not isinstance(prompt, str) and prompt[-1]["role"] == ASSISTANT


def without_system_role(turns: list[Message]) -> list[Message]:
    """The turns with the first one, the system's, at the start of the first user turn.

    llama.cpp's server joins them so.
    """
    system, user, *rest = turns
    return [{"role": USER, "content": f"{system['content']}\n{user['content']}"}, *rest]


def rendered(tokenizer: PreTrainedTokenizerBase, turns: list[Message], reply_follows: bool) -> str:
    """A conversation through the template. reply_follows: it ends where the assistant's next turn begins.

    A template without a system role gets the system turn at the start of the first user turn, as in
    llama.cpp's server: some refuse the role (Gemma's), others leave it out without a word (Phi-3-mini's).
    UserError with the template's own words if it refuses the conversation.
    """
    from jinja2 import TemplateError

    # As llama.cpp's server does unless told otherwise. A template that was loaded no longer asks
    # (template_changes.settle_thinking).
    options: dict[str, Any] = {
        "tokenize": False,
        "add_generation_prompt": reply_follows,
        "enable_thinking": True,
    }
    has_system = turns[0]["role"] == SYSTEM
    try:
        text = str(tokenizer.apply_chat_template(turns, **options))
        if not has_system or turns[0]["content"].strip() in text:
            return text
    except (TemplateError, TypeError) as error:  # TypeError: it reads what only a chat with tools has
        if not has_system:
            raise UserError(f"the model's chat template refuses the conversation: {error}") from error
    return rendered(tokenizer, without_system_role(turns), reply_follows)


def encode(tokenizer: PreTrainedTokenizerBase, text: str | list[str]) -> Any:
    """The token ids of a text as a list, of several texts as a list of lists."""
    # The template has already written the special tokens, with the first (BOS): adding them again would
    # double it.
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """True if the tokenizer puts BOS before a text by itself. A server then begins each chat with it."""
    ids = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id


def space_as_server(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let a SentencePiece tokenizer put a space before the text after each special token, as llama.cpp does.

    transformers 5 puts one before the first text only (where the tokenizer's config says "legacy": false).
    Where the template itself writes BOS, tokens stay as they always were.
    """
    from tokenizers.pre_tokenizers import Metaspace

    backend = getattr(tokenizer, "backend_tokenizer", None)  # one written in Python has none
    if backend is None or not tokenizer.chat_template or not adds_bos(tokenizer):
        return
    current = backend.pre_tokenizer
    if not isinstance(current, Metaspace) or current.prepend_scheme != "first":
        return
    if not prompt_text(tokenizer, "Q").startswith(tokenizer.bos_token):
        backend.pre_tokenizer = Metaspace(current.replacement, prepend_scheme="always", split=current.split)


def remove_eos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Let the tokenizer put no EOS after a text by itself; True if it did.

    Some tools switch that on for training. A server would then end each prompt with EOS, before the reply.
    """
    if tokenizer("a")["input_ids"][-1] != tokenizer.eos_token_id:
        return False
    tokenizer.add_bos_token = adds_bos(tokenizer)  # a tokenizer that was loaded does not know it
    tokenizer.add_eos_token = False
    return True


def conversation_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of rendered conversations.

    Some templates (TinyLlama's, Zephyr's) leave BOS to the tokenizer. llama.cpp's server then puts it first,
    and it does not double the one of a template.
    """
    rows = encode(tokenizer, list(texts)) if texts else []  # transformers takes no empty list
    if not adds_bos(tokenizer):
        return rows
    bos = tokenizer.bos_token_id
    return [ids if ids[:1] == [bos] else [bos, *ids] for ids in rows]


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, system: str | None = None) -> list[int]:
    """Token ids of the prompt, exactly what a server makes of the same conversation."""
    return conversation_ids(tokenizer, [prompt_text(tokenizer, prompt, system)])[0]


def continuation_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, answers: Sequence[str], system: str | None = None
) -> tuple[list[int], list[list[int]]]:
    """(token ids of the prompt, of each answer): the answers as the text that goes on where the prompt ends.

    Prompt and answer are tokenised together, as lm-evaluation-harness does (TemplateLM._encode_pair): a
    tokenizer that puts a space before each text would give an answer alone another first token. Where it
    joins the prompt's last characters with the answer's first, each is tokenised alone, since a prompt is
    always tokenised alone when a reply is asked for. So a space between the two belongs to the answer.
    """
    start = prompt_text(tokenizer, prompt, system)
    ids, *wholes = conversation_ids(tokenizer, [start, *(start + answer for answer in answers)])
    return ids, [
        whole[len(ids) :] if whole[: len(ids)] == ids else encode(tokenizer, answer)
        for answer, whole in zip(answers, wholes, strict=True)
    ]


class ReplyFrame(NamedTuple):
    """What the template writes around the text of a reply: before it (after the prompt), and after it."""

    before: str
    after: str


def reply_frame(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> ReplyFrame:
    """The frame of the reply to a prompt. UserError if the template cannot show the model such a reply."""
    start = prompt_text(tokenizer, prompt)
    turn = with_reply(tokenizer, start, prompt, _PLACEHOLDER)
    before, placeholder, after = turn.removeprefix(start).partition(_PLACEHOLDER)
    has_two_thoughts = thought.without_empty(start) != start and thought.is_marked(before)
    if not turn.startswith(start) or has_two_thoughts:
        raise UserError(
            "the model's chat template renders a prompt differently once a reply follows, "
            "so it cannot be used for training."
        )
    if not placeholder:
        raise UserError("the model's chat template leaves the reply out, so it cannot be used for training.")
    return ReplyFrame(before, after)


def with_reply(tokenizer: PreTrainedTokenizerBase, start: str, prompt: Prompt, reply: str) -> str:
    """The rendered conversation of a prompt and the reply to it. start: the rendered prompt.

    Some templates end a prompt with an empty thought but leave it out of the replies that were given (Gemma
    4's of 26B and 31B). It is put back, since the model reads it before it writes.
    """
    turn = rendered(tokenizer, answered(prompt, reply), reply_follows=False)
    begun = thought.without_empty(start)
    if turn.startswith(begun) and not turn.startswith(start):
        return start + turn.removeprefix(begun)
    return turn


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids of the tokens that are markup, not text."""
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return special | set(tokenizer.all_special_ids)


def end_of_turn_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the token that ends the assistant's turn in this tokenizer's template.

    It is the first special token after the text of a rendered reply: often the end-of-text token, but Phi-3
    (`<|end|>`), Llama 3 (`<|eot_id|>`) and Gemma (`<end_of_turn>`) have their own. UserError if the template
    ends a turn with no special token, since a model trained so would never stop.
    """
    turn = rendered(tokenizer, answered("Q", _PLACEHOLDER), reply_follows=False)
    special = special_ids(tokenizer)
    for token_id in encode(tokenizer, turn.partition(_PLACEHOLDER)[2]):
        if token_id in special:
            return token_id
    raise UserError(
        "the model's chat template does not end a reply with a special token, so replies would never stop."
    )


def answered(prompt: Prompt, reply: str) -> list[Message]:
    """The conversation of a prompt and the reply to it."""
    return [*messages(prompt), {"role": ASSISTANT, "content": reply}]


def stop_ids(
    tokenizer: PreTrainedTokenizerBase, generation_config: GenerationConfig | None = None
) -> list[int]:
    """Ids that end a reply, sorted: the template's end of turn, the end of text, the model's own."""
    ids = {end_of_turn_id(tokenizer), tokenizer.eos_token_id}
    listed = getattr(generation_config, "eos_token_id", None)
    ids.update(listed if isinstance(listed, (list, tuple)) else [listed])
    return sorted(number for number in ids if number is not None)
