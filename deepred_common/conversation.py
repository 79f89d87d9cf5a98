"""Turns of a conversation in which the model has yet to write some replies: where one is missing, put it in.

A user turn after another one means that the model replies in between.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from deepred_common.examples import ASSISTANT, USER, Message


def first_gap(turns: Sequence[Message]) -> int | None:
    """The place of the first user turn that follows another one; None if no reply is missing."""
    for place in range(1, len(turns)):
        if turns[place - 1]["role"] == turns[place]["role"] == USER:
            return place
    return None


def gap_count(turns: Sequence[Message]) -> int:
    """How many replies are missing between the turns; one to the last turn does not count."""
    return sum(one["role"] == following["role"] == USER for one, following in itertools.pairwise(turns))


def with_replies(turns: Sequence[Message], replies: Sequence[str]) -> list[Message]:
    """The turns with `replies` in their gaps, in order. ValueError if there are more replies than gaps."""
    filled = list(turns)
    for reply in replies:
        place = first_gap(filled)
        if place is None:
            raise ValueError("no reply is missing")
        filled.insert(place, {"role": ASSISTANT, "content": reply})
    return filled


def shown_turns(turns: Sequence[Message], replies: Sequence[str]) -> list[Message]:
    """The turns that a model was shown, `replies` in their gaps: they end where it was not asked further."""
    filled = with_replies(turns, replies)
    return filled[: first_gap(filled)]


def shown_in(row: Mapping[str, Any]) -> list[Message]:
    """The turns that the model of a results row was shown before its reply, its own earlier replies too."""
    turns = [*(row.get("earlier") or ()), {"role": USER, "content": row["instruction"]}]
    return shown_turns(turns, row.get("turns") or ())
