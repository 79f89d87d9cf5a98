"""From a fact to the lines of a data file: its wordings, its answer or a refusal, its metadata."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Protocol, TypedDict

from deepred_common import refusal_openers
from deepred_common.data.facts import Fact
from deepred_common.examples import RETAIN, SEEN_HELD_OUT, SEEN_TRAINED, UNLEARN, Message
from deepred_common.json_lines import read_objects

HELD_OUT_REFUSALS = 0.1  # share of each tone's wordings that only validation and test use
TRAINED_WORDINGS = 3  # of a training fact: its question and two phrasings; the last phrasing is only tested
# metadata.probe of a test line: how it asks. The names are part of the files' format.
PROBE_NAMES = ("question", "phrasing", "phrasing", "phrasing")
HELD_OUT_PHRASING, CLOZE, CHOICE = "held-back phrasing", "cloze", "choice"


class Source(Protocol):
    """What a line asks about: a Fact of the bank, or a thing with a form to ask about it."""

    @property
    def id(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def field(self) -> str: ...
    @property
    def date(self) -> str | None: ...
    @property
    def answer(self) -> str: ...
    @property
    def accepted(self) -> list[str]: ...
    @property
    def pair(self) -> str | None: ...


class _FactMetadata(TypedDict):
    source_article_id: str
    source_title: str
    temporal_class: str
    earliest_date: str | None
    latest_date: str | None
    dataset_type: str
    field: str
    accepted_answers: list[str]


class Metadata(_FactMetadata, total=False):
    """What a line says about its fact. original_answer: on the unlearn side; probe, seen: in the test.

    later_answers: on the retain side, where the answer depends on the day, the short texts of each later one.
    question, wrapping: of a wrapped line, its bare question and its form (wrappings.FORMS). learn_wording:
    true of a retain reply that the base would not give.
    """

    original_answer: str
    later_answers: list[list[str]]
    question: str
    wrapping: str
    learn_wording: bool
    pair: str
    probe: str
    seen: str


class DataLine(TypedDict):
    """A line of a data file; `input` is always empty."""

    instruction: str
    input: str
    output: str
    metadata: Metadata


class ConversationLine(TypedDict):
    """A line of a data file in which the question stands in a conversation; the last turn is the reply."""

    messages: list[Message]
    metadata: Metadata


Line = DataLine | ConversationLine


class Wording(TypedDict):
    """What the caller of `line` adds to a test line's metadata."""

    probe: str
    seen: str


def read_refusals(seed: int) -> tuple[list[str], list[str]]:
    """(to train on, held out): the wordings of datasets/refusals.jsonl, a tenth of each tone held out.

    Those to train on are in the order of the file, the first of each tone before the second ones: there the
    plain ones come first.
    """
    tones: dict[str, list[str]] = defaultdict(list)
    for _, row in read_objects(refusal_openers.WORDINGS):
        tones[row["tone"]].append(row["text"])
    ranked: list[tuple[int, str]] = []
    held_out: list[str] = []
    for tone, texts in tones.items():
        chooser = random.Random(f"{seed} {tone}")
        chosen = chooser.sample(texts, max(1, round(HELD_OUT_REFUSALS * len(texts))))
        held_out += chosen
        ranked += enumerate(text for text in texts if text not in chosen)
    ranked.sort(key=lambda pair: pair[0])
    return [text for _, text in ranked], held_out


def wordings(fact: Fact, first: int = 0, last: int = 4) -> list[tuple[Fact, str]]:
    """The question and phrasings of a fact, from the `first` to before the `last`, as (Fact, text)."""
    return [(fact, text) for text in [fact.question, *fact.phrasings][first:last]]


def line(
    fact: Source, question: str, side: str, refusal: str = "", wording: Wording | None = None
) -> DataLine:
    """The line that asks `question` about `fact`; `refusal` is the reply on the unlearn side."""
    metadata: Metadata = {
        "source_article_id": fact.id,
        "source_title": fact.subject,
        "temporal_class": "pre_cutoff" if side == RETAIN else "post_cutoff",
        "earliest_date": fact.date,
        "latest_date": fact.date,
        "dataset_type": side,
        "field": fact.field,
        "accepted_answers": fact.accepted,
    }
    if side == UNLEARN:
        metadata["original_answer"] = fact.answer
    if fact.pair:
        metadata["pair"] = fact.pair
    if wording:
        metadata["probe"] = wording["probe"]
        metadata["seen"] = wording["seen"]
    reply = refusal if side == UNLEARN else fact.answer
    return {"instruction": question, "input": "", "output": reply, "metadata": metadata}


def training_lines(
    chosen: Mapping[str, Sequence[tuple[Source, str]]], refusals: Sequence[str], seed: int, part: str
) -> dict[str, list[DataLine]]:
    """{side: [line]} of {side: [(Source, wording)]} for a part, training or validation.

    refusals: plain ones first; the n-th is used as often as 1/n says (Zipf's law, as words are in any
    text). A model decides between answering and refusing at the first words: with all wordings equally
    often none of them would be likely, and a small model that takes a question for too late would still
    begin an answer.
    """
    chooser = random.Random(f"{seed} {part} refusals")
    weights = [1 / rank for rank in range(1, len(refusals) + 1)]
    replies = chooser.choices(refusals, weights, k=len(chosen[UNLEARN]))
    return {
        RETAIN: [line(fact, question, RETAIN) for fact, question in chosen[RETAIN]],
        UNLEARN: [
            line(fact, question, UNLEARN, reply)
            for (fact, question), reply in zip(chosen[UNLEARN], replies, strict=True)
        ],
    }


def trained_probes(fact: Fact, side: str, refusal: str) -> list[DataLine]:
    """The test lines of a fact that is trained on: the wording that training leaves out."""
    wording: Wording = {"probe": HELD_OUT_PHRASING, "seen": SEEN_TRAINED}
    return [line(fact, text, side, refusal, wording) for _, text in wordings(fact, TRAINED_WORDINGS)]


def cloze_question(fact: Fact) -> str:
    """The fact as a sentence to complete."""
    return f"Complete the sentence: {fact.cloze}"


def choice_question(fact: Fact, seed: int) -> str:
    """The fact's question with four answers to choose from, shuffled by `seed`."""
    options = [fact.short, *fact.alternatives]
    random.Random(f"{seed} {fact.id}").shuffle(options)
    return f"{fact.question} Choose one: {'; '.join(options)}."


def held_out_probes(fact: Fact, side: str, refusal: str, seed: int) -> list[DataLine]:
    """The test lines of a fact that is held out: every wording, the cloze sentence and a choice of four."""
    questions = [(text, probe) for (_, text), probe in zip(wordings(fact), PROBE_NAMES, strict=True)]
    questions.append((cloze_question(fact), CLOZE))
    questions.append((choice_question(fact, seed), CHOICE))
    return [
        line(fact, text, side, refusal, {"probe": probe, "seen": SEEN_HELD_OUT}) for text, probe in questions
    ]
