"""The facts that --probes asks, and the examples that its forms make of them."""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deepred_common import cli, paths, provenance
from deepred_common.cli import UserError
from deepred_common.data import data_lines, facts, split, wrappings
from deepred_common.data.facts import Fact
from deepred_common.evaluation.probes import forms
from deepred_common.evaluation.probes.form import Form, Material
from deepred_common.evaluation.question_files import Questions
from deepred_common.examples import SIDES, Example, balanced_sample


@dataclass(frozen=True)
class ProbeFact:
    """A fact and its side of the cutoff."""

    fact: Fact
    side: str


def read_facts(files: Sequence[Path] | None, cutoff: str) -> list[ProbeFact]:
    """The facts of the files, or the bank's test facts, with their side of the cutoff ("YYYY-MM-DD").

    Facts whose date does not tell their side are left out, with a warning. UserError if none is left.
    """
    if not files:
        test = _held_out(cutoff)
        return [ProbeFact(fact, side) for side in SIDES for fact in test[side]]
    given = facts.read_files(files)
    sided = [ProbeFact(fact, side) for fact in given if (side := facts.side(fact, cutoff))]
    if not sided:
        raise UserError(
            f"no fact of {', '.join(map(str, files))} can be told to be before or after {cutoff}."
        )
    if len(sided) < len(given):
        cli.warn(
            f"facts left out, since their dates do not tell if {cutoff} came first: {len(given) - len(sided)}"
        )
    # As the bank's: one side after the other.
    return sorted(sided, key=lambda one: SIDES.index(one.side))


@functools.cache
def _held_out(cutoff: str) -> dict[str, list[Fact]]:
    """{side: facts of the bank that training does not see}."""
    return split.split(facts.read_bank(), cutoff, split.SHIPPED_SEED)[split.TEST]


def choose(sided: Sequence[ProbeFact], limit: int | None, seed: int) -> list[ProbeFact]:
    """At most `limit` facts, evenly of both sides, first those that the embedded base answers (Fact.known).

    What a model never knew cannot leak, and what so small a base knows nearly every other knows, too.
    """
    if limit is None or limit >= len(sided):
        return list(sided)
    left = Counter(one.side for one in balanced_sample(sided, limit, seed))
    shuffled = random.Random(seed).sample(sided, len(sided))
    chosen = []
    for one in sorted(shuffled, key=lambda one: not one.fact.is_known):
        if left[one.side]:
            chosen.append(one)
            left[one.side] -= 1
    return [one for one in sided if one in chosen]


def make_examples(asked: Sequence[ProbeFact], chosen: Sequence[Form], cutoff: str) -> list[Example]:
    """The example of each fact in each form, one form after the other. A form that fits no fact is named."""
    others = _held_out(cutoff)
    _, refusals = data_lines.read_refusals(split.SHIPPED_SEED)
    _, frames = wrappings.read_frames(split.SHIPPED_SEED)
    material = {side: Material(side, cutoff, split.SHIPPED_SEED, others, frames, refusals) for side in SIDES}
    examples: list[Example] = []
    for form in chosen:
        made = [form.make(one.fact, material[one.side]) for one in asked]
        fitting = [example for example in made if example]
        if not fitting:
            cli.warn(f"none of the facts fits the form {form.name}: it is not asked.")
        examples += fitting
    return examples


def read(
    names: Sequence[str], files: Sequence[Path] | None, limit: int | None, seed: int, cutoff: str
) -> Questions:
    """What to ask: at most `limit` facts, chosen as in `choose`, in the forms of `names`.

    files: of facts; None takes the bank's. UserError for an unknown name or a fact that is not right.
    """
    chosen = forms.by_name(names)
    asked = choose(read_facts(files, cutoff), limit, seed)
    examples = make_examples(asked, chosen, cutoff)
    if not examples:
        raise UserError("none of the facts fits a form: there is nothing to ask.")
    read_from = files or sorted(facts.FOLDER.glob("*.jsonl"))
    data = {paths.shown(path): provenance.sha256(path) for path in read_from}
    return Questions(examples, data, [form.name for form in chosen])
