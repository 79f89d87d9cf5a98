"""The table of dated things in datasets/things/: what a thing is, and the questions that are made of it.

How sharp a cutoff becomes depends on how many different dated things a model has seen on each side of it.
Facts with questions, answers and wrong answers of their own are costly to write; a row of this table is not.
One JSON object a line:

    name   as it stands in a sentence: "the Suez Crisis", "Heartbreak Hotel"
    kind   a noun: film, treaty, sports title, …
    date   from when the public could know of it, as in the bank of facts
    by     its maker, place or winner, as its kind has one; "" if it has none
    fame   1: everybody knows it, 2: an educated person does, 3: those who care for its kind
    doubt  only of rows that are not used: "year" (a second reader dated it otherwise), "unknown" (that reader
           did not know it) or "name" (it fits several things, or misleads)

forms.jsonl beside it holds the questions, one JSON object a line: the `kinds` it is asked of, a `question`
and its `answer`, in which {name}, {by}, {kind} and {year} are filled in. Each kind has eight or more.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepred_common import paths
from deepred_common.cli import UserError
from deepred_common.data.facts import side_of_date
from deepred_common.dates import parse
from deepred_common.examples import SIDES
from deepred_common.json_lines import read_objects

FOLDER = paths.ROOT / "datasets" / "things"
FORMS = "forms.jsonl"
LEAST_FORMS = 8  # of a kind
FAMES = (1, 2, 3)
# One in so many names is held out for the test. Which ones follows from the name alone, so that the table can
# grow without a tested thing coming to be trained on.
HELD_OUT_ONE_IN = 20
# In a sentence these take "the"; some rows write it, some do not.
_WITH_ARTICLE = {
    "Atlantic Ocean",
    "BBC",
    "Black Sea",
    "Caribbean",
    "Dominican Republic",
    "English Channel",
    "European Space Agency",
    "European Union",
    "House of Lords",
    "Netherlands",
    "North Sea",
    "Ottoman Empire",
    "Pacific Ocean",
    "Philippines",
    "Soviet Union",
    "US Navy",
    "US Supreme Court",
    "United Kingdom",
    "United Nations",
    "United States",
    "United States Supreme Court",
}


@dataclass(frozen=True)
class Form:
    """A way to ask about things of some kinds. question and answer are templates."""

    kinds: tuple[str, ...]
    question: str
    answer: str

    @property
    def needs_by(self) -> bool:
        """Can only a thing with a maker, place or winner be asked about in this form?"""
        return "{by}" in self.question + self.answer


@dataclass(frozen=True)
class Thing:
    """One row of the table; the fields are those of its line."""

    name: str
    kind: str
    date: str
    by: str
    fame: int

    @property
    def is_held_out(self) -> bool:
        """Is it asked about in the test only?"""
        digest = hashlib.sha256(self.name.casefold().encode()).digest()
        return int.from_bytes(digest[:8], "big") % HELD_OUT_ONE_IN == 0


@dataclass(frozen=True)
class AskedThing:
    """A thing with a form to ask about it, read like a fact of the bank (data_lines.Source)."""

    thing: Thing
    form: Form

    @property
    def id(self) -> str:
        """The id that a line names as its source."""
        return "thing-" + re.sub(r"\W+", "-", self.thing.name.casefold()).strip("-")

    @property
    def subject(self) -> str:
        """What it is about."""
        return self.thing.name

    @property
    def field(self) -> str:
        """Its kind."""
        return self.thing.kind

    @property
    def date(self) -> str:
        """From when it could be known."""
        return self.thing.date

    @property
    def question(self) -> str:
        """The form's question, filled in."""
        return _filled(self.form.question, self.thing)

    @property
    def answer(self) -> str:
        """The form's answer, filled in."""
        return _filled(self.form.answer, self.thing)

    @property
    def accepted(self) -> list[str]:
        """Short texts any of which shows a right reply."""
        if self.form.needs_by:
            return [self.thing.by]
        return [_year_text(self.thing.date)]

    @property
    def pair(self) -> None:
        """Things have no pairs."""
        return None


def _filled(template: str, thing: Thing) -> str:
    """The template with the thing's name, maker, kind and year; sentences begin with a capital letter."""
    # "a {kind}" becomes "an album".
    if thing.kind[0].lower() in "aeiou":
        template = re.sub(r"\b([Aa]) \{kind\}", r"\1n {kind}", template)
    by = f"the {thing.by}" if thing.by in _WITH_ARTICLE else thing.by
    parts = {"name": thing.name, "by": by, "kind": thing.kind, "year": _year_text(thing.date)}

    def fill(match: re.Match[str]) -> str:
        text, stop = parts[match["part"]], match["stop"]
        if match["start"] is not None and text:
            text = text[0].upper() + text[1:]
        # No second one after "Fontaines D.C." or "Have You Met Miss Jones?"
        return text if stop and text.endswith(stop) else text + stop

    pattern = r"(?P<start>^|(?<=[.:?!] ))?\{(?P<part>name|by|kind|year)\}(?P<stop>[.?]?)"
    return re.sub(pattern, fill, template)


def _year_text(date: str) -> str:
    parsed = parse(date)
    if parsed is None:
        raise ValueError(f"{date!r} is no date")
    return f"{-parsed.year} BC" if parsed.year < 0 else str(parsed.year)


def read_things(folder: Path = FOLDER) -> list[Thing]:
    """The rows of all *.jsonl files in `folder` but FORMS, without doubtful ones, sorted by name.

    Raises UserError naming file and line of a row that is not right.
    """
    things: dict[str, Thing] = {}
    for file in sorted(folder.glob("*.jsonl")):
        if file.name == FORMS:
            continue
        for where, row in read_objects(file):
            if row.pop("doubt", None):
                continue
            if fault := _fault(row):
                raise UserError(f"{where}: {fault}")
            thing = Thing(**row)
            if thing.name.casefold() in things:
                raise UserError(f"{where}: the table has two things with the name {thing.name}.")
            things[thing.name.casefold()] = thing
    return [things[key] for key in sorted(things)]


def _fault(row: dict[str, object]) -> str | None:
    """What is wrong with a row; None if nothing is."""
    if wrong_keys := Thing.__dataclass_fields__.keys() ^ row.keys():
        return f"keys missing or unknown: {', '.join(sorted(wrong_keys))}"
    for key in ("name", "kind", "by", "date"):
        if not isinstance(row[key], str) or (key != "by" and not str(row[key]).strip()):
            return f"{key!r} must be a text"
    if row["date"] != str(parse(row["date"])):
        return f'{row["date"]!r} is no date such as "1968-04-02", "1968-04", "1968" or "-44"'
    if row["fame"] not in FAMES:
        return "'fame' must be 1, 2 or 3"
    return None


def read_forms(folder: Path = FOLDER) -> dict[str, list[Form]]:
    """{kind: its Forms in the order of the file}. UserError if a kind has fewer than LEAST_FORMS."""
    forms: dict[str, list[Form]] = defaultdict(list)
    for _, row in read_objects(folder / FORMS):
        form = Form(tuple(row["kinds"]), row["question"], row["answer"])
        for kind in form.kinds:
            forms[kind].append(form)
    for kind, of_kind in forms.items():
        if len(of_kind) < LEAST_FORMS:
            raise UserError(f"{folder / FORMS}: the kind {kind} has fewer than {LEAST_FORMS} forms.")
    return dict(forms)


def ask(
    things: Iterable[Thing],
    forms: Mapping[str, Sequence[Form]],
    cutoff: str,
    ratio: tuple[float, float],
    rounds: int,
    seed: int,
) -> dict[str, list[AskedThing]]:
    """{side: things with a form each}, so that neither kind nor form tells the side.

    Of each kind as many things on both sides (as `ratio` says, retain to unlearn), and each form as often on
    both. A thing is asked about `rounds` times, each time in another form. Things of a kind without forms,
    without a `by` that their kind's forms need, or with a date that does not tell the side are left out.
    """
    by_kind: dict[str, dict[str, list[Thing]]] = defaultdict(lambda: {side: [] for side in SIDES})
    for thing in things:
        of_kind = forms.get(thing.kind, [])
        side = side_of_date(thing.date, cutoff)
        if side and of_kind and (thing.by or not any(form.needs_by for form in of_kind)):
            by_kind[thing.kind][side].append(thing)
    asked: dict[str, list[AskedThing]] = {side: [] for side in SIDES}
    for kind in sorted(by_kind):
        of_kind = forms[kind]
        units = min(len(by_kind[kind][side]) / share for side, share in zip(SIDES, ratio, strict=True))
        for side, share in zip(SIDES, ratio, strict=True):
            members = by_kind[kind][side]
            random.Random(f"{seed} {kind} {side}").shuffle(members)
            for turn in range(min(rounds, len(of_kind))):
                for number, thing in enumerate(members[: int(units * share)]):
                    asked[side].append(AskedThing(thing, of_kind[(number + turn) % len(of_kind)]))
    return asked
