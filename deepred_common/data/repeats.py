"""What an example has in common with the others of its data: repetitions, contradictions, held-out questions.

Of each example only hashes, its place and the little that a finding quotes are kept, so that data of any
size fit.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from deepred_common.data.findings import Findings
from deepred_common.data.questions import QuestionHashes, question_hashes
from deepred_common.examples import CHAT, MIXED, RETAIN, SEEN_TRAINED, SIDES, UNLEARN, Example
from deepred_common.judging import answer_match

# The parts of a data set. An example may stand in training and in dev, but not twice in one of them, and
# not in training and held out.
TRAINING, DEV, HELD_OUT = "training", "dev", "held out"
# Kinds for which questions of one part are compared beyond the exact repetition.
_REWORDINGS = frozenset({"reworded", "two answers", "other order"})


class _Earlier(NamedTuple):
    """The first example with some wording, as later ones need it."""

    where: str
    source: str
    reply: str


class _Asked(NamedTuple):
    """A question as comparing the sides needs it."""

    side: str
    part: str
    in_order: int
    where: str
    question: str


class _Trained(NamedTuple):
    """What of a training example must not be held out, as hashes."""

    side: str
    part: str
    where: str
    question: QuestionHashes
    title: int | None
    source: int | None


class Repeats:
    """Takes examples one by one with `add`; `finish` finds what only all show. All goes to `findings`.

    counts: {(side, part): examples}. faults, after `finish`: {(kind, side, part): examples} of what the sides
    or the parts have in common.
    """

    def __init__(self, findings: Findings) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.faults: Counter[tuple[str, str, str]] = Counter()
        self._findings = findings
        self._compares_rewordings = bool(findings.wanted & _REWORDINGS)
        self._whole: dict[int, str] = {}
        self._first_by_key: dict[int, _Earlier] = {}
        self._first_in_order: dict[int, _Earlier] = {}
        self._first_in_any_order: dict[int, _Earlier] = {}
        self._asked: dict[int, list[_Asked]] = {}
        self._trained: list[_Trained] = []
        # {hash: where it is held out}
        self._held_out_questions: dict[int, str] = {}
        self._held_out_words: dict[int, str] = {}
        self._held_out_titles: dict[int, str] = {}
        self._held_out_sources: dict[int, str] = {}

    def add(self, example: Example, part: str) -> None:
        """Take one example of a part (TRAINING, DEV or HELD_OUT)."""
        self.counts[example.side, part] += 1
        question = question_hashes(example.shown_text)
        self._compare_within_part(example, part, question)
        is_mixed = example.metadata.get("wrapping") == MIXED  # such a message stands on both sides
        if example.side in SIDES and not is_mixed:
            asked = _Asked(example.side, part, question.in_order, example.where, example.instruction)
            self._asked.setdefault(question.in_any_order, []).append(asked)
        if example.side == CHAT:
            return  # no subject of its own, and a text about one is answered whatever its date
        title, source = _title(example), _source(example)
        if part != HELD_OUT:
            self._trained.append(_Trained(example.side, part, example.where, question, title, source))
            return
        self._held_out_questions.setdefault(question.key, example.where)
        if example.metadata.get("seen") == SEEN_TRAINED:
            return  # the fact is trained on, and only this wording is held out
        self._held_out_questions.setdefault(question.in_order, example.where)
        self._held_out_words.setdefault(question.in_any_order, example.where)
        if title is not None:
            self._held_out_titles.setdefault(title, example.where)
        if source is not None:
            self._held_out_sources.setdefault(source, example.where)

    def finish(self) -> None:
        """Compare the sides with each other, and training with what is held out."""
        for asked in self._asked.values():
            if len(asked) > 1 and len({one.side for one in asked}) == len(SIDES):
                self._note_both_sides(asked)
        if self._held_out_questions:
            for trained in self._trained:
                self._note_held_out(trained)

    def _compare_within_part(self, example: Example, part: str, question: QuestionHashes) -> None:
        """Note an example that repeats an earlier one of its part, word for word or in other words."""
        side, where = example.side, example.where
        # A probe may repeat the question of another one, to compare with.
        part = f"{part} {example.metadata.get('probe')}"
        whole = hash((part, side, question.key, example.output))
        is_repeated = whole in self._whole
        if is_repeated:
            self._findings.add("repeated", where, f"as {_seen_from(where, self._whole[whole])}")
        else:
            self._whole[whole] = where
        if not self._compares_rewordings:
            return
        source = str(example.metadata.get("source_article_id") or "")
        own = _Earlier(where, source, example.output)
        first = self._first_by_key.setdefault(hash((part, side, question.key)), own)
        same_words = self._first_in_order.setdefault(hash((part, side, question.in_order)), own)
        any_order = self._first_in_any_order.setdefault(hash((part, side, question.in_any_order)), own)
        # Two wordings of one fact are meant, as long as they differ.
        if first is own and not (source and source == same_words.source):
            first = same_words
        if is_repeated:
            return
        if first is not own:
            kind = "reworded" if side == UNLEARN or _agree(example, first.reply) else "two answers"
            self._findings.add(kind, where, f"{example.instruction!r}, as {_seen_from(where, first.where)}")
        elif any_order is not own and not (source and source == any_order.source):
            self._findings.add(
                "other order", where, f"{example.instruction!r}, as {_seen_from(where, any_order.where)}"
            )

    def _note_both_sides(self, asked: list[_Asked]) -> None:
        """Note, as one finding, questions of both sides that have the same telling words."""
        retain = [one for one in asked if one.side == RETAIN]
        unlearn = [one for one in asked if one.side == UNLEARN]
        shared = {one.in_order for one in retain} & {one.in_order for one in unlearn}
        kind = "other order"
        if shared:
            kind = "both sides"
            retain = [one for one in retain if one.in_order in shared]
            unlearn = [one for one in unlearn if one.in_order in shared]
        detail = f"{unlearn[0].question!r}, on the other side in {retain[0].where}"
        self.faults.update((kind, one.side, one.part) for one in retain + unlearn)
        others = [one.where for one in retain + unlearn]
        self._findings.add(kind, unlearn[0].where, detail, others)

    def _note_held_out(self, trained: _Trained) -> None:
        """Note a training example whose question or subject is held out."""
        key, in_order, in_any_order = trained.question
        question = _first_place(self._held_out_questions, key, in_order)
        title = _first_place(self._held_out_titles, trained.title)
        source = _first_place(self._held_out_sources, trained.source)
        other_order = _first_place(self._held_out_words, in_any_order)
        has_held_out_subject = title is not None or source is not None
        if has_held_out_subject:
            self.faults["held-out subject", trained.side, trained.part] += 1
        if question is not None:
            self.faults["held-out question", trained.side, trained.part] += 1
            self._findings.add("held-out question", trained.where, f"as {question}")
        elif has_held_out_subject:
            same = f"title as {title}" if title is not None else f"source as {source}"
            self._findings.add("held-out subject", trained.where, f"the same {same}")
        elif other_order is not None:
            self._findings.add("other order", trained.where, f"as {other_order}, which is held out")


def _first_place(places: dict[int, str], *hashes: int | None) -> str | None:
    """Where the first of the hashes is held out; None if none of them is."""
    for one in hashes:
        if one is not None and one in places:
            return places[one]
    return None


def _seen_from(where: str, earlier: str) -> str:
    """The place `earlier`, without its file if that is the file of `where`."""
    file = where.rpartition(" line ")[0]
    return earlier.removeprefix(f"{file} ") if file else earlier


def _title(example: Example) -> int | None:
    title = str(example.metadata.get("source_title") or "").casefold()
    return hash(title) if title else None


def _source(example: Example) -> int | None:
    source = str(example.metadata.get("source_article_id") or "")
    return hash(source) if source else None


def _agree(example: Example, answer: str) -> bool:
    """Do two answers to one question say the same? Then one is right where the other is the reference."""
    accepted = example.metadata.get("accepted_answers") or ()
    question = example.question
    return answer_match.is_right(answer, example.output, question, accepted) or answer_match.is_right(
        example.output, answer, question
    )
