"""The bank of dated facts in datasets/facts/: what a fact is, reading it, and its side of a cutoff.

One JSON object a line:

    id            unique, never changed
    subject       what it is about; facts of one subject never part between training, validation and test
    field         one word: film, science, …
    date          from when it could be known: "1968-04-02", "1968-04", "1968", "-44"; null if it always could
    question      and "phrasings": three others of different form, all with the same one answer
    answer        one sentence; "short": the bare answer; "aliases": other forms of it that are right too
    alternatives  three wrong answers that were plausible at the time
    cloze         a statement with ____ in the answer's place
    pair          the same text in two facts of one kind on both sides of some date, or null
    known         of its question and phrasings, how many the untouched embedded base answers rightly:
                  [right, number asked]; null: not asked yet
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepred_common import paths
from deepred_common.cli import UserError
from deepred_common.dates import parse
from deepred_common.examples import RETAIN, UNLEARN
from deepred_common.json_lines import read_objects

FOLDER = paths.ROOT / "datasets" / "facts"
# Facts whose words mislead about their date, a kind a file. Only the test asks them.
MISLEADING = FOLDER / "misleading"
GAP = "____"
PHRASINGS = 3
ALTERNATIVES = 3


@dataclass(frozen=True)
class Fact:
    """One fact of the bank; the fields are those of its line."""

    id: str
    subject: str
    field: str
    date: str | None
    question: str
    phrasings: list[str]
    answer: str
    short: str
    aliases: list[str]
    alternatives: list[str]
    cloze: str
    pair: str | None
    known: list[int] | None

    @property
    def accepted(self) -> list[str]:
        """Short texts any of which shows a right reply."""
        return [self.short, *self.aliases]

    @property
    def is_known(self) -> bool:
        """Does the embedded base answer one of the wordings rightly?"""
        return bool(self.known and self.known[0])


def read_bank(folder: Path = FOLDER) -> list[Fact]:
    """The Facts of all *.jsonl files in `folder`, sorted by id.

    Raises UserError naming file and line of a fact that is not right.
    """
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise UserError(f"{folder} has no *.jsonl files of facts.")
    return read_files(files)


def read_misleading(folder: Path = MISLEADING) -> dict[str, list[Fact]]:
    """{kind, such as "modern words": its Facts sorted by id}. UserError as in read_bank."""
    return {file.stem.replace("-", " "): read_files([file]) for file in sorted(folder.glob("*.jsonl"))}


def read_files(files: Iterable[Path]) -> list[Fact]:
    """The Facts of these files, sorted by id. UserError as in read_bank."""
    facts: dict[str, Fact] = {}
    for file in files:
        for where, row in read_objects(file):
            if fault := _fault(row):
                raise UserError(f"{where}: {fault}")
            fact = Fact(**row)
            if fact.id in facts:
                raise UserError(f"{where}: the bank has two facts with the id {fact.id}.")
            facts[fact.id] = fact
    return [facts[key] for key in sorted(facts)]


def _fault(row: dict[str, Any]) -> str | None:
    """What is wrong with a line of the bank; None if nothing is."""
    if wrong_keys := Fact.__dataclass_fields__.keys() ^ row.keys():
        return f"keys missing or unknown: {', '.join(sorted(wrong_keys))}"
    for key in ("id", "subject", "field", "question", "answer", "short", "cloze"):
        if not isinstance(row[key], str) or not row[key].strip():
            return f"{key!r} must be a text that is not empty"
    for key in ("phrasings", "aliases", "alternatives"):
        if not isinstance(row[key], list) or not all(isinstance(text, str) for text in row[key]):
            return f"{key!r} must be a list of texts"
    # Users' data may write a date in several ways, the bank in one.
    if row["date"] is not None and row["date"] != str(parse(row["date"])):
        return f'{row["date"]!r} is no date such as "1968-04-02", "1968-04", "1968" or "-44"'
    if GAP not in row["cloze"]:
        return f"the cloze sentence has no {GAP}"
    if (
        len({row["question"], *row["phrasings"]}) <= PHRASINGS
        or len(set(row["alternatives"])) != ALTERNATIVES
    ):
        return "three phrasings beside the question and three alternatives are needed, all different"
    return None


def side(fact: Fact, cutoff: str) -> str | None:
    """The side of a fact: RETAIN if it could be known before the day `cutoff` ("YYYY-MM-DD"), else UNLEARN.

    None if its date does not tell, such as a year in which the cutoff lies.
    """
    return RETAIN if fact.date is None else side_of_date(fact.date, cutoff)


def side_of_date(date: str, cutoff: str) -> str | None:
    """The side of what could be known from `date` on, as in `side`."""
    known_from, border = parse(date), parse(cutoff)
    if known_from is None or border is None:
        raise ValueError(f"{date!r} or {cutoff!r} is no date")
    if known_from.last_day < border.first_day:
        return RETAIN
    return UNLEARN if known_from.first_day >= border.first_day else None
