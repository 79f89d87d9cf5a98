"""Questions in the present tense with their answers as of a cutoff, and the lines made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deepred_common.data.data_lines import DataLine, training_lines
from deepred_common.data.present import Answer, AsOf, Question, as_of
from deepred_common.data.split import TEST, TRAIN, VALIDATION, name_finder
from deepred_common.examples import RETAIN, SEEN_HELD_OUT, SIDES, UNLEARN


@dataclass(frozen=True)
class AskedQuestion:
    """A question with its answer as of a cutoff, read like a fact of the bank (data_lines.Source).

    Where there was no answer yet, it is the first later one, and `accepted` shows any later one.
    """

    question: Question
    now: AsOf

    @property
    def side(self) -> str:
        """RETAIN if there was an answer before the cutoff, else UNLEARN."""
        return RETAIN if self.now.answer else UNLEARN

    @property
    def _answer(self) -> Answer:
        return self.now.answer or self.now.later[0]

    @property
    def id(self) -> str:
        """The id that a line names as its source."""
        return f"present-{self.question.id}"

    @property
    def subject(self) -> str:
        """What it is about."""
        return self.question.subject

    @property
    def field(self) -> str:
        """The question's field."""
        return self.question.field

    @property
    def date(self) -> str | None:
        """From when the answer held; None if it always had."""
        return str(self._answer.start) if self._answer.start else None

    @property
    def answer(self) -> str:
        """The answer as a sentence."""
        return self._answer.answer

    @property
    def accepted(self) -> list[str]:
        """Short texts any of which shows the answer."""
        if self.now.answer:
            return self.question.texts(self.now.answer.short)
        return [text for texts in self.later for text in texts]

    @property
    def later(self) -> list[list[str]]:
        """The short texts of each later answer."""
        return [self.question.texts(short) for short in dict.fromkeys(one.short for one in self.now.later)]

    @property
    def pair(self) -> None:
        """Questions in the present tense have no pairs."""
        return None


def parts_as_of(
    questions: Iterable[Question], cutoff: str, held_out: Iterable[str]
) -> dict[str, list[AskedQuestion]]:
    """{TRAIN, VALIDATION or TEST: the questions whose answer before the `cutoff` is known, with this answer}.

    held_out: subjects; what names one of them, or is about one ("insulin"), is not trained on.
    """
    held_out = list(held_out)
    named, subjects = name_finder(held_out), {subject.casefold() for subject in held_out}
    parts: dict[str, list[AskedQuestion]] = {TRAIN: [], VALIDATION: [], TEST: []}
    for question in questions:
        if now := as_of(question, cutoff):
            asked = AskedQuestion(question, now)
            text = " ".join([*question.wordings, asked.answer])
            is_held_out = asked.subject.casefold() in subjects or bool(named(text))
            if question.part != TRAIN or not is_held_out:
                parts[question.part].append(asked)
    return parts


def part_lines(
    parts: dict[str, list[AskedQuestion]], part: str, refusals: Sequence[str], seed: int
) -> dict[str, list[DataLine]]:
    """{side: [line]} of all wordings of the questions of a part."""
    chosen: dict[str, list[tuple[AskedQuestion, str]]] = {side: [] for side in SIDES}
    for one in parts[part]:
        chosen[one.side] += [(one, wording) for wording in one.question.wordings]
    lines = training_lines(chosen, refusals, seed, f"{part} present")
    for side in SIDES:
        for (one, _), line in zip(chosen[side], lines[side], strict=True):
            metadata = line["metadata"]
            metadata["probe"] = one.question.probe
            if part == TEST:
                metadata["seen"] = SEEN_HELD_OUT
            if side == RETAIN:
                metadata["later_answers"] = one.later
                # The base would give today's answer, or yet another.
                metadata["learn_wording"] = True
    return lines
