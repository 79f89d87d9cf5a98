"""The choices that a question offers ("Choose one: Rome; Madrid; Paris"), and which of them a reply takes."""

from __future__ import annotations

import re

from deepred_common.judging.comparable_words import comparable_words

_CHOICES = re.compile(r":((?:[^:;]+;)+[^:;]+)$")


def split(question: str) -> tuple[str, list[str]]:
    """(The question without its choices, the choices as comparable words); (question, []) without any."""
    match = _CHOICES.search(question.rstrip(" .?!"))
    if match is None:
        return question, []
    return question[: match.start()], [_plain(choice) for choice in match[1].split(";")]


def taken(reply: str, choices: list[str]) -> tuple[int, bool]:
    """(How many of the choices stand in a reply, does it say anything else?)"""
    rest, count = f" {_plain(reply)} ", 0
    # The longest first: "northern Italy" is not also "Italy".
    for choice in sorted(choices, key=len, reverse=True):
        if choice and f" {choice} " in rest:
            count += 1
            rest = rest.replace(f" {choice} ", " ")
    return count, bool(rest.strip())


def _plain(text: str) -> str:
    return " ".join(word.text for word in comparable_words(text))
