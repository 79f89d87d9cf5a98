"""Questions in datasets/present/ whose right answer depends on the day: who rules, what is tallest, a word.

A model with a cutoff should answer them as of the day before it. One JSON object a line, in questions.jsonl:

    id         unique, never changed
    field      science, sport, …
    question   in the present tense, and "phrasings": two others
    begins     true if there was no such thing before the first answer (no Beatles album before the first);
               false if we only do not know the earlier answers
    answers    in order of time: "from", the first day on which one holds and is known ("1968-04-02",
               "1968-04", "1968"; null: always before), and "to", the first day on which it no longer holds,
               which is the next one's "from" (null: still); "answer", a sentence in the present tense;
               "short", the bare answer; "aliases", other forms of it. No text of one stands in those of
               another. An answer may return: then it has the same "short"

and in words.jsonl, of words that changed their meaning: id, word, three questions, and meanings, which are
like answers. A first meaning with the short NOT_A_WORD says that the word did not exist.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from deepred_common import paths
from deepred_common.cli import UserError
from deepred_common.data.split import TEST, TRAIN, VALIDATION
from deepred_common.dates import Date, parse
from deepred_common.examples import CHANGED_WORD, PRESENT_TENSE
from deepred_common.json_lines import read_objects
from deepred_common.judging.words import plain_words

FOLDER = paths.ROOT / "datasets" / "present"
QUESTIONS, WORDS = "questions.jsonl", "words.jsonl"
NOT_A_WORD = "not a word"
WORDINGS = 3  # of each question
# Of so many questions, those whose id's hash leaves a remainder below the first bound are trained on, and
# those below the second validate. What is held out follows from the id alone, so that the files can grow.
_PARTS, _TRAINED_BELOW, _VALIDATING_BELOW = 20, 12, 15

_KEYS = {
    QUESTIONS: {"id", "field", "question", "phrasings", "begins", "answers"},
    WORDS: {"id", "word", "questions", "meanings"},
}
_ANSWER_KEYS = {"from", "to", "answer", "short", "aliases"}


@dataclass(frozen=True)
class Answer:
    """An answer and when it held: from `start` to before `end` (None: without a bound)."""

    start: Date | None
    end: Date | None
    answer: str
    short: str
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A question with its answers in order of time. probe: PRESENT_TENSE or CHANGED_WORD."""

    id: str
    subject: str
    field: str
    probe: str
    begins: bool
    wordings: tuple[str, ...]
    answers: tuple[Answer, ...]

    @property
    def part(self) -> str:
        """TRAIN, VALIDATION or TEST, for all its wordings."""
        digest = hashlib.sha256(self.id.encode()).digest()
        place = int.from_bytes(digest[:8], "big") % _PARTS
        if place < _TRAINED_BELOW:
            return TRAIN
        return VALIDATION if place < _VALIDATING_BELOW else TEST

    def texts(self, short: str) -> list[str]:
        """The answer `short` and all its aliases: short texts that show it."""
        same = [answer for answer in self.answers if answer.short == short]
        return list(dict.fromkeys([short, *(alias for answer in same for alias in answer.aliases)]))


@dataclass(frozen=True)
class AsOf:
    """What holds on the day before a cutoff. answer: None if there was none yet. later: in order of time."""

    answer: Answer | None
    later: tuple[Answer, ...]


def as_of(question: Question, cutoff: str) -> AsOf | None:
    """The answer of the day before the `cutoff` ("YYYY-MM-DD"), and all later ones that are not right then.

    None where we do not know the answer: before the first one, unless the thing begins with it, and if the
    dates do not tell, such as a change in the year of the cutoff.
    """
    last = datetime.date.fromisoformat(cutoff) - datetime.timedelta(days=1)
    day = (last.year, last.month, last.day)
    began = [answer for answer in question.answers if answer.start is None or answer.start.first_day <= day]
    later = question.answers[len(began) :]
    answer = began[-1] if began else None
    if (answer is None and question.begins) or (answer and answer.short == NOT_A_WORD):
        return AsOf(None, later)
    if answer is None or (answer.end and answer.end.first_day <= day):
        return None
    if answer.start and answer.start.last_day > day:
        return None
    return AsOf(answer, tuple(one for one in later if one.short != answer.short))


# ---- reading ---------------------------------------------------------------------------------------------


def read_questions(folder: Path = FOLDER) -> list[Question]:
    """The Questions of both files in `folder`, sorted by id; those of words have "word-" before it.

    Raises UserError naming file and line of what is not right.
    """
    questions: dict[str, Question] = {}
    for name, keys in _KEYS.items():
        for where, row in read_objects(folder / name):
            if wrong_keys := keys ^ row.keys():
                raise UserError(f"{where}: keys missing or unknown: {', '.join(sorted(wrong_keys))}")
            if name == WORDS:
                row = {
                    "id": f"word-{row['id']}",
                    "subject": row["word"],
                    "field": "words",
                    "probe": CHANGED_WORD,
                    "begins": False,
                    "wordings": row["questions"],
                    "answers": row["meanings"],
                }
            else:
                row = {
                    "id": row["id"],
                    "subject": str(row["id"]).replace("-", " "),
                    "field": row["field"],
                    "probe": PRESENT_TENSE,
                    "begins": row["begins"],
                    "wordings": [row["question"], *row["phrasings"]],
                    "answers": row["answers"],
                }
            if fault := _fault(row):
                raise UserError(f"{where}: {fault}")
            if row["id"] in questions:
                raise UserError(f"{where}: two lines have the id {row['id']}.")
            answers = tuple(_answer(answer) for answer in row["answers"])
            questions[row["id"]] = Question(**row | {"wordings": tuple(row["wordings"]), "answers": answers})
    return [questions[key] for key in sorted(questions)]


def _answer(row: dict[str, Any]) -> Answer:
    return Answer(
        start=parse(row["from"]),
        end=parse(row["to"]),
        answer=row["answer"],
        short=row["short"],
        aliases=tuple(row["aliases"]),
    )


def _fault(row: dict[str, Any]) -> str | None:
    """What is wrong with a line; None if nothing is."""
    texts = [row["id"], row["subject"], row["field"], *row["wordings"]]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        return "id, field, word and questions must be texts that are not empty"
    if len({*row["wordings"]}) != WORDINGS:
        return f"{WORDINGS} different wordings of the question are needed"
    if not isinstance(row["begins"], bool):
        return "'begins' must be true or false"
    answers = row["answers"]
    if len(answers) < 2:
        return "at least two answers are needed, or nothing changes"
    for answer in answers:
        if wrong_keys := _ANSWER_KEYS ^ answer.keys():
            return f"keys of an answer missing or unknown: {', '.join(sorted(wrong_keys))}"
        for text in (answer["answer"], answer["short"], *answer["aliases"]):
            if not isinstance(text, str) or not text.strip():
                return "answer, short and aliases must be texts that are not empty"
        for date in (answer["from"], answer["to"]):
            if date is not None and date != str(parse(date)):
                return f'{date!r} is no date such as "1968-04-02", "1968-04" or "1968"'
    return _fault_in_time(answers) or _fault_in_texts(answers)


def _fault_in_time(answers: Sequence[dict[str, Any]]) -> str | None:
    """What is wrong with the intervals of the answers."""
    for number, answer in enumerate(answers):
        start, end = parse(answer["from"]), parse(answer["to"])
        if start is None and number:
            return f"{answer['short']!r} has no 'from', but is not the first answer"
        if end is None and number < len(answers) - 1:
            return f"{answer['short']!r} has no 'to', but is not the last answer"
        if start and end and start.first_day >= end.first_day:
            return f"{answer['short']!r} holds from {answer['from']} to {answer['to']}, which is no time"
    for before, after in pairwise(answers):
        if before["to"] != after["from"]:
            return (
                f"there is a gap or an overlap: {before['short']!r} holds to {before['to']}, "
                f"{after['short']!r} from {after['from']}"
            )
        if before["short"] == after["short"]:
            return f"{before['short']!r} follows itself; make it one answer"
    return None


def _fault_in_texts(answers: Sequence[dict[str, Any]]) -> str | None:
    """A text of one answer that stands in a text of another, so that it cannot tell them apart."""
    of_short: dict[str, set[str]] = {}
    for answer in answers:
        texts = {f" {' '.join(plain_words(text))} " for text in (answer["short"], *answer["aliases"])}
        of_short[answer["short"]] = of_short.get(answer["short"], set()) | texts
    for (one, texts), (other, other_texts) in combinations(of_short.items(), 2):
        for text in texts:
            for other_text in other_texts:
                if text in other_text or other_text in text:
                    return f"{text.strip()!r} does not tell the answers {one!r} and {other!r} apart"
    return None
