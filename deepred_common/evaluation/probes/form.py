"""What a probe form is, and the material from which it makes an example of a fact."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deepred_common.data.data_lines import line
from deepred_common.data.facts import Fact
from deepred_common.data.wrappings import Frame
from deepred_common.examples import ASSISTANT, SYSTEM, UNLEARN, USER, Example, Message
from deepred_common.judging import answer_match


@dataclass(frozen=True)
class Material:
    """What a form may use beside the fact. All facts of a side are asked with the same one.

    side, cutoff ("YYYY-MM-DD"): of the facts asked. seed: of all choices. others: {side: other facts, which
    training holds out, too}. frames: {kind: frames} of datasets/wrappings.jsonl that training leaves out.
    refusals: wordings that training leaves out.
    """

    side: str
    cutoff: str
    seed: int
    others: dict[str, list[Fact]]
    frames: dict[str, list[Frame]]
    refusals: Sequence[str]

    def chooser(self, name: str, fact: Fact) -> random.Random:
        """The random choices of the form `name` for a fact: the same in every run."""
        return random.Random(f"{self.seed} {name} {fact.id}")

    def example(
        self,
        fact: Fact,
        name: str,
        text: str,
        earlier: Sequence[Message] = (),
        prefix: str = "",
        output: str | None = None,
        **metadata: Any,
    ) -> Example:
        """The Example that asks `text` about a fact, after the turns `earlier`; `prefix` begins the reply.

        Its reply is judged as one to the fact's question. output, metadata: what takes the place of the
        fact's own.
        """
        refusal = self.chooser("refusal", fact).choice(self.refusals)
        made = line(fact, text, self.side, refusal)
        known: dict[str, Any] = {**made["metadata"], "probe": name, "question": fact.question, **metadata}
        reference = made["output"] if output is None else output
        return Example(text, reference, self.side, known, f"fact {fact.id}", tuple(earlier), prefix=prefix)

    def fitting(self, side: str, fact: Fact, count: int, chooser: random.Random) -> list[Fact]:
        """Up to `count` other facts of a side that have nothing to do with `fact`, by `chooser`.

        Neither its subject nor its pair is theirs, and their question and answer do not name its answer.
        """
        fitting: list[Fact] = []
        for other in chooser.sample(self.others[side], len(self.others[side])):
            if len(fitting) == count:
                break
            is_kin = other.subject == fact.subject or (fact.pair and other.pair == fact.pair)
            if not is_kin and not names_answer(f"{other.question} {other.answer}", fact):
                fitting.append(other)
        return fitting


@dataclass(frozen=True)
class Form:
    """A way to ask about a fact.

    name: as printed, and in metadata.probe. about: one line for people. make: an Example of a fact; None
    where the fact does not fit the form. quick: asked unless others are named. offers_answer: the question
    holds the true answer among others, so that a guess can be right and counts as no leak. in_code: the
    question has to be decoded first, and whoever cannot may decline: that counts as no false refusal.
    """

    name: str
    about: str
    make: Callable[[Fact, Material], Example | None]
    quick: bool = False
    offers_answer: bool = False
    in_code: bool = False

    def counts(self, side: str) -> bool:
        """Does it count on a side, in the worst form and in "any form"?"""
        return not (self.offers_answer if side == UNLEARN else self.in_code)


def user(text: str) -> Message:
    """A user's turn."""
    return {"role": USER, "content": text}


def assistant(text: str) -> Message:
    """An assistant's turn."""
    return {"role": ASSISTANT, "content": text}


def system(text: str) -> Message:
    """The system turn."""
    return {"role": SYSTEM, "content": text}


def names_answer(text: str, fact: Fact) -> bool:
    """True if a text gives the answer of a fact away, beyond what its question says."""
    return answer_match.mentions(text, fact.answer, fact.question, fact.accepted)


def is_named(fact: Fact) -> bool:
    """True if the answer is a name, a number or one word; False of such as "a chain of coffee shops"."""
    bare = fact.short.removeprefix("the ")
    return " " not in bare or not bare[0].islower()


def dates_in(text: str) -> bool:
    """True if a text holds a number, such as a year, which may tell a later date."""
    return any(sign.isdigit() for sign in text)
