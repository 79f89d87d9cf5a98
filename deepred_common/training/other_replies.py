"""The other reply of dated examples, for objectives that compare two, or unlearn one."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence

from deepred_common.cli import UserError
from deepred_common.examples import MIXED, UNLEARN, Example
from deepred_common.training.objectives.protocol import OTHER, OWN, Objective
from deepred_common.training.token_rows import Pair

VERSION = 2  # raise it when this module chooses other replies for the same examples

# Gives examples without a reply one of the base's, "" where it writes none; the same examples, in order.
Writer = Callable[[Sequence[Example]], Sequence[Example]]


def are_needed(objective: Objective) -> bool:
    """True if the objective needs more than the examples' own replies."""
    return (objective.unlearn_replies, objective.retain_replies) != (OWN, OWN)


def key(objective: Objective, seed: int) -> list[str]:
    """Texts that tell these replies from others of the same examples and base, for the caches."""
    return [f"other replies {VERSION}, {objective.unlearn_replies} {objective.retain_replies} {seed}"]


def added(
    examples: Sequence[Example], objective: Objective, seed: int, write: Writer
) -> list[Example | Pair]:
    """The retain and unlearn examples with the replies that the objective needs.

    The other reply of an unlearn example is its metadata.original_answer, or what the base replies, "" where
    there is neither. That of a retain example is the refusal of an unlearn example of the same part, chosen
    by `seed`. UserError if there is no such refusal.
    """
    others: dict[int, Example] = {}
    if objective.unlearn_replies != OWN:
        others |= _answers(examples, write)
    if objective.retain_replies != OWN:
        others |= _refusals(examples, objective, seed)
    needs = {True: objective.unlearn_replies, False: objective.retain_replies}
    chosen: list[Example | Pair] = []
    for place, example in enumerate(examples):
        replies = needs[example.side == UNLEARN]
        if replies == OWN:
            chosen.append(example)
        else:
            chosen.append(others[place] if replies == OTHER else Pair(example, others[place]))
    return chosen


def _answers(examples: Sequence[Example], write: Writer) -> dict[int, Example]:
    """{place: the example with an answer, or "", in place of its refusal} of unlearn examples."""
    unlearn = {place: example for place, example in enumerate(examples) if example.side == UNLEARN}
    answered = {
        place: dataclasses.replace(example, output=str(example.metadata.get("original_answer") or "").strip())
        for place, example in unlearn.items()
    }
    missing = [place for place, example in answered.items() if not example.output]
    if missing:
        written = write([answered[place] for place in missing])
        answered |= zip(missing, written, strict=True)
    return answered


def _refusals(examples: Sequence[Example], objective: Objective, seed: int) -> dict[int, Example]:
    """{place: the example with a refusal in place of its answer} of retain examples."""
    unlearn = [example for example in examples if example.side == UNLEARN]
    # The reply to two questions at once refuses one of them only.
    refusals = [e.output for e in unlearn if e.metadata.get("wrapping") != MIXED]
    refusals = refusals or [example.output for example in unlearn]
    if not refusals:
        raise UserError(
            f"--objective {objective.name} needs unlearn examples, to whose refusals answers are preferred; "
            "the data have none."
        )
    chooser = random.Random(f"{seed} other replies")
    return {
        place: dataclasses.replace(example, output=chooser.choice(refusals))
        for place, example in enumerate(examples)
        if example.side != UNLEARN
    }
