"""What is changed in a model's own chat template, so that every server shows the model the right prompts.

The changed template is saved with the model and travels into the GGUF file.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from deepred_common import chat
from deepred_common.cli import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What of a template says a date. Llama 3.1 to 3.3 and SmolLM3 write such lines into every system prompt;
# Granite 3 begins its own system prompt so.
_DATES = (
    r"""\{\{-?\s*["'](?:Cutting Knowledge|Knowledge Cutoff|Today) Date: (?:[^{}]*?)\}\}\s*?\n?""",
    r"""Knowledge Cutoff Date: [^"'{}]*Today's Date: ["']\s*\+\s*strftime_now\([^()]*\)"""
    r"""\s*\+\s*["']\.(?:\s|\\n)""",
)


def remove_dates(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Remove today's and a knowledge date from the chat template; True if there were any.

    Such a date leaks the present to a model that is to live before its cutoff. It also differs between the
    day of training and the day of use, so that LM Studio would show the model a prompt it was never trained
    on.
    """
    template = str(tokenizer.chat_template)
    tokenizer.chat_template = re.sub("|".join(_DATES), "", template)
    return tokenizer.chat_template != template


def date_in_prompt(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """A year of this century that the template puts into every prompt, as text, or None."""
    year = re.search(r"\b20\d\d\b", chat.prompt_text(tokenizer, "Q"))
    return year and year[0]


# A template's marks of what the assistant writes, which only transformers' Jinja knows. They say nothing.
_GENERATION_TAG = re.compile(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")


def remove_generation_tags(tokenizer: PreTrainedTokenizerBase) -> None:
    """Make the generation tags of a chat template tags that every server knows, and that do nothing either.
    Each stays a tag, since tags take the white space around them away.
    """
    if tokenizer.chat_template:
        tokenizer.chat_template = _GENERATION_TAG.sub(
            lambda tag: f"{tag[1]}{'endif' if tag[2] else 'if true'}{tag[3]}", tokenizer.chat_template
        )


# What is written before a template that asks whether the model may think: no, or yes where no training can go
# without.
_ANSWERS = ("{% set enable_thinking = false %}", "{% set enable_thinking = true %}")


def settle_thinking(tokenizer: PreTrainedTokenizerBase) -> None:
    """Answer a chat template that asks whether the model may think, whatever a server would say.

    Servers say yes or no as they like. The answer is no, so that no thought is trained and none is shown; it
    is yes if the template can be used for training only so (DeepSeek V3.2's). A template that can be used
    with neither, or for which the answer changes no prompt, stays as it is.
    """
    template = tokenizer.chat_template
    if not template or "enable_thinking" not in template or template.startswith(_ANSWERS):
        return
    prompts = set()
    for answer in _ANSWERS:
        tokenizer.chat_template = answer + template
        with contextlib.suppress(UserError):
            prompts.add(chat.prompt_text(tokenizer, "Q"))
    for answer in _ANSWERS if len(prompts) > 1 else ():
        tokenizer.chat_template = answer + template
        with contextlib.suppress(UserError):
            chat.reply_frame(tokenizer, "Q")
            return
    tokenizer.chat_template = template
