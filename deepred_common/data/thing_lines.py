"""Questions about dated things: those to train on, and the lines that test the things held out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, cast

from deepred_common.data.data_lines import ConversationLine, Line, line
from deepred_common.data.split import name_finder, plain_name
from deepred_common.data.things import AskedThing, Form, Thing, ask
from deepred_common.examples import SEEN_HELD_OUT, SIDES

MOST_LINES, MOST_ROUNDS = 8_000, 3  # training lines of a side that are about things, and of one thing
THING = "thing"  # metadata.probe of a line about a thing; its kind is the line's field


class Table(NamedTuple):
    """The table of dated things and, by kind, the forms of questions about them."""

    things: Sequence[Thing]
    forms: Mapping[str, Sequence[Form]]

    def without(self, names: Iterable[str]) -> Table:
        """The table without the things of these names."""
        taken = {plain_name(name) for name in names}
        return self._replace(things=[thing for thing in self.things if plain_name(thing.name) not in taken])


def to_train(
    table: Table, held_out: Sequence[str], cutoff: str, ratio: tuple[float, float], seed: int
) -> dict[str, list[tuple[AskedThing, str]]]:
    """{side: [(thing with its form, question)]} to train on.

    None names a subject of `held_out`, or is part of its name. Each thing is asked about as often as it takes
    to have MOST_LINES of a side, but MOST_ROUNDS at most.
    """
    named = name_finder(held_out)
    # "Peter Rabbit" is also left out where "The Tale of Peter Rabbit" is held out.
    trainable = [thing for thing in table.things if not thing.is_held_out]
    named_by_subjects = name_finder(thing.name for thing in trainable)
    parts_of_subjects = {name for subject in held_out for name in named_by_subjects(subject)}
    trained = [
        thing
        for thing in trainable
        if thing.name not in parts_of_subjects and not named(f"{thing.name} {thing.by}")
    ]
    asked: dict[str, list[AskedThing]] = {}
    for rounds in range(1, MOST_ROUNDS + 1):
        asked = ask(trained, table.forms, cutoff, ratio, rounds, seed)
        if min(len(asked[side]) for side in SIDES) >= MOST_LINES:
            break
    return {side: [(one, one.question) for one in asked[side]] for side in SIDES}


def test_lines(
    table: Table, training: Sequence[Line], refusals: Sequence[str], cutoff: str, seed: int
) -> list[Line]:
    """One question about each held-out thing that no training line names."""
    held_out = [thing for thing in table.things if thing.is_held_out]
    named = name_finder(thing.name for thing in held_out)
    in_training = {name for one in training for name in named(_text_of(one))}
    unnamed = [thing for thing in held_out if thing.name not in in_training]
    asked = ask(unnamed, table.forms, cutoff, (1, 1), 1, seed)
    return [
        line(
            one,
            one.question,
            side,
            refusals[number % len(refusals)],
            {"probe": THING, "seen": SEEN_HELD_OUT},
        )
        for side in SIDES
        for number, one in enumerate(asked[side])
    ]


def _text_of(one: Line) -> str:
    """All that a line says."""
    if "messages" in one:
        messages = cast(ConversationLine, one)["messages"]
        return " ".join(turn["content"] for turn in messages)
    return f"{one['instruction']} {one['output']}"
