"""The bank of dated facts in datasets/facts/: what a fact is, reading it, and on which side of a cutoff it lies.

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
    known         of its question and phrasings, how many the untouched embedded base answers rightly: [right, asked]; null: not asked yet
"""

from dataclasses import dataclass

from deepred_common import paths
from deepred_common.cli import UserError
from deepred_common.dates import parse
from deepred_common.examples import RETAIN, UNLEARN, read_objects

FOLDER = paths.ROOT / "datasets" / "facts"
GAP = "____"


@dataclass(frozen=True)
class Fact:
    """One fact of the bank; the fields are those of its line."""

    id: str
    subject: str
    field: str
    date: str | None
    question: str
    phrasings: list
    answer: str
    short: str
    aliases: list
    alternatives: list
    cloze: str
    pair: str | None
    known: list | None

    @property
    def accepted(self):
        """Short texts any of which shows a right reply."""
        return [self.short, *self.aliases]


def read_bank(folder=FOLDER):
    """The Facts of all *.jsonl files in `folder`, sorted by id. UserError naming file and line of one that is not right."""
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise UserError(f"{folder} holds no *.jsonl files of facts.")
    found = {}
    for where, row in (pair for file in files for pair in read_objects(file)):
        fault = _fault(row)
        if fault:
            raise UserError(f"{where}: {fault}")
        fact = Fact(**row)
        if fact.id in found:
            raise UserError(f"{where}: the id {fact.id} stands twice in the bank.")
        found[fact.id] = fact
    return [found[key] for key in sorted(found)]


def _fault(row):
    if missing := Fact.__dataclass_fields__.keys() ^ row.keys():
        return f"keys missing or unknown: {', '.join(sorted(missing))}"
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
    if len({row["question"], *row["phrasings"]}) < 4 or len(set(row["alternatives"])) != 3:
        return "three phrasings beside the question and three alternatives are needed, all different"
    return None


def side(fact, cutoff):
    """RETAIN for what could be known before the day `cutoff` ("YYYY-MM-DD"), UNLEARN from that day on; None if its date does not tell."""
    if fact.date is None:
        return RETAIN
    border, date = parse(cutoff).first_day, parse(fact.date)
    return RETAIN if date.last_day < border else UNLEARN if date.first_day >= border else None
