"""A reply of a model that reasons first: where its thought ends and its answer begins.

What counts is the answer. Thoughts that fine-tuning is to bring about, or to prevent, are no part of it.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Form(NamedTuple):
    """One way of marking a thought.

    opening, closing: patterns. example: a reply whose answer is "Yes.". in_words: the opening is a sentence,
    with which an answer may begin too: without the closing it opens nothing.
    """

    opening: str
    closing: str
    example: str
    in_words: bool = False


_NAME = r"(?:\w+:)?(?:think(?:ing)?|thoughts?|reasoning)(?::\w+)?"
FORMS = (
    # DeepSeek, Qwen3, GLM and most others; also <seed:think>, <mm:think>, <thought>, <think:opensource>
    Form(rf"<{_NAME}(?:\s[^<>]*)?>", rf"</{_NAME}\s*>", "<think>\nHm.\n</think>\n\nYes."),
    Form(r"\[THINK\]", r"\[/THINK\]", "[THINK]Hm.[/THINK]Yes."),  # Magistral, Ministral 3
    # gpt-oss, and the same after a server has dropped the special tokens
    Form(
        r"<\|channel\|>\s*analysis\b",
        r"<\|channel\|>\s*final\b(?:[^<]|<\|constrain\|>)*<\|message\|>",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>",
    ),
    Form(r"\A(?-i:analysis(?=[A-Z]))", r"assistantfinal", "analysisHm.assistantfinalYes."),
    Form(r"<\|channel>\s*thought\b", r"<channel\|>", "<|channel>thought\nHm.<channel|>Yes."),  # Gemma 4
    Form(  # Command A, R7B
        r"<\|START_THINKING\|>",
        r"<\|END_THINKING\|>",
        "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|>",
    ),
    Form(  # OpenThinker
        r"<\|begin_of_thought\|>",
        r"<\|end_of_thought\|>",
        "<|begin_of_thought|>Hm.<|end_of_thought|>\n<|begin_of_solution|>Yes.<|end_of_solution|>",
    ),
    Form(r"<\|inner_prefix\|>", r"<\|inner_suffix\|>", "<|inner_prefix|>Hm.<|inner_suffix|>Yes."),  # Apertus
    Form(r"<\|think\|>", r"<\|content\|>", "<|think|>Hm.<|end|><|begin|>assistant<|content|>Yes."),  # Solar
    Form(  # Kimi K3
        r"<\|open\|>think<\|sep\|>",
        r"<\|close\|>think<\|sep\|>",
        "<|open|>think<|sep|>Hm.<|close|>think<|sep|>Yes.",
    ),
    Form("◁think▷", "◁/think▷", "◁think▷Hm.◁/think▷Yes."),  # Kimi-VL
    Form(  # Granite 3.2
        r"\AHere(?: is|'s|’s) my thought process:",
        r"^Here(?: is|'s|’s) my response:",
        "Here is my thought process:\nHm.\nHere is my response:\nYes.",
        in_words=True,
    ),
    Form(  # Apriel
        "Here are my reasoning steps:",
        r"\[BEGIN FINAL RESPONSE\]",
        "Here are my reasoning steps:\nHm.\n[BEGIN FINAL RESPONSE]\nYes.\n[END FINAL RESPONSE]",
        in_words=True,
    ),
)
_OPENING = "<think>\n"  # how a thought begins here that was opened, or sent, without a mark of its own
_FLAGS = re.IGNORECASE | re.DOTALL | re.MULTILINE
_WHOLE = [re.compile(f"(?:{form.opening}).*?(?:{form.closing})", _FLAGS) for form in FORMS]
_CLOSINGS = [re.compile(form.closing, _FLAGS) for form in FORMS]
_LEFT_OPEN = re.compile("|".join(f"(?:{form.opening})" for form in FORMS if not form.in_words), _FLAGS)
_ENDS_OPEN = re.compile("(?:" + "|".join(form.opening for form in FORMS) + r")\s*\Z", _FLAGS)
_ENDS_EMPTY = re.compile(
    "(?:" + "|".join(rf"(?:{form.opening})\s*(?:{form.closing})" for form in FORMS) + r")\s*\Z", _FLAGS
)
_ANY_MARK = re.compile("|".join(f"(?:{form.opening})|(?:{form.closing})" for form in FORMS), _FLAGS)
# What may stand around the answer once a thought has come before it.
_AROUND_ANSWER = re.compile(
    r"</?(?:answer|response|solution)>|\[END FINAL RESPONSE\]|<\|[^|<>]*\|>(?:assistant\b)?", re.IGNORECASE
)


def is_marked(reply: str) -> bool:
    """True if a thought begins or ends in the reply."""
    return _ANY_MARK.search(reply) is not None


def answer_of(reply: str) -> str | None:
    """What a reply says outside of its thoughts: the answer. None if a thought never ends.

    A thought whose opening mark is missing begins with the reply: the template wrote the mark. A reply
    without a thought comes back unchanged.
    """
    if not is_marked(reply):
        return reply
    for whole in _WHOLE:
        reply = whole.sub("\n", reply)
    for closing in _CLOSINGS:
        reply = closing.split(reply)[-1]
    if _LEFT_OPEN.search(reply):
        return None
    return _AROUND_ANSWER.sub(" ", reply).strip()


def is_all(reply: str) -> bool:
    """True if a reply has a thought and nothing else."""
    return is_marked(reply) and not answer_of(reply)


def joined(thought: str, answer: str) -> str:
    """The reply of a server that sends thought and answer apart. Without an answer the thought stays open."""
    return f"{_OPENING}{thought.strip()}" + (f"\n</think>\n\n{answer}" if answer else "")


def opened_by(prompt: str) -> str:
    """What a rendered prompt has begun of the reply: the opening of a thought, or ""."""
    return _OPENING if _ENDS_OPEN.search(prompt) else ""


def without_empty(prompt: str) -> str:
    """A rendered prompt without the empty thought that it may end with."""
    return _ENDS_EMPTY.sub("", prompt)
