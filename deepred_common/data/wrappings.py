"""Questions as people put them: politely framed, after a role, in lower case, after other talk, doubted.

Each form wraps questions of both sides alike, so that the form tells nothing of the side. The frames are in
datasets/wrappings.jsonl, one JSON object a line with its `kind`:

    polite      before, after: text around a question
    role        text: a role or manner, as a system prompt or before the question
    doubt       text: what a user says after a reply, right or wrong
    confirm     text: how an assistant begins to repeat its answer after a doubt
    correct     text: how an assistant begins to answer what it first declined
    small_talk  user, assistant: an exchange before the question
    two         before, between, after: text around two questions
    decline_rest  text: how an assistant that has answered one of two questions declines the other

confirm and correct never begin as a refusal does: the first word decides whether a model refuses.
"""

from __future__ import annotations

import functools
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from deepred_common import paths
from deepred_common.data.data_lines import ConversationLine, DataLine, Line, Metadata
from deepred_common.examples import ASSISTANT, MIXED, RETAIN, SIDES, SYSTEM, UNLEARN, USER, Message
from deepred_common.json_lines import read_objects

FILE = paths.ROOT / "datasets" / "wrappings.jsonl"
HELD_OUT_SHARE = 0.2  # of each kind of frame; only the test uses them
WRAPPED_SHARE = 0.4  # of the training lines of each side
# metadata.wrapping of a line. The names are part of the files' format.
POLITE, ROLE, LOWER_CASE, SMALL_TALK = "polite", "role", "lower case", "small talk"
TWO, AFTER_ANOTHER = "two questions", "after another question"
ANSWER_DOUBTED, REFUSAL_DOUBTED = "answer doubted", "refusal doubted"
_ON_BOTH_SIDES = (POLITE, ROLE, LOWER_CASE, SMALL_TALK, TWO, AFTER_ANOTHER, ANSWER_DOUBTED, REFUSAL_DOUBTED)
# MIXED stands on the unlearn side alone, beside TWO on both: two questions in one message tell nothing.
FORMS = {RETAIN: _ON_BOTH_SIDES, UNLEARN: (*_ON_BOTH_SIDES, MIXED)}
# Doubts are the hardest to learn, and are trained on twice as often as each of the others.
_TRAINED_MORE = (ANSWER_DOUBTED, REFUSAL_DOUBTED)

Frame = dict[str, str]


def read_frames(seed: int) -> tuple[dict[str, list[Frame]], dict[str, list[Frame]]]:
    """({kind: frames} to train on, {kind: frames} held out)."""
    kinds: dict[str, list[Frame]] = defaultdict(list)
    for _, row in read_objects(FILE):
        kinds[row["kind"]].append(row)
    trained, held_out = {}, {}
    for kind, frames in kinds.items():
        shuffled = random.Random(f"{seed} {kind}").sample(frames, len(frames))
        count = max(1, round(HELD_OUT_SHARE * len(shuffled)))
        held_out[kind], trained[kind] = shuffled[:count], shuffled[count:]
    return trained, held_out


@dataclass(frozen=True)
class Wrapper:
    """Wraps plain lines in frames. lines: {side: plain lines} that a second question is taken from."""

    frames: dict[str, list[Frame]]
    lines: dict[str, list[DataLine]]
    refusals: Sequence[str]
    chooser: random.Random

    def wrap(self, line: DataLine, form: str) -> Line:
        """The line with its question in one of its side's FORMS, and the reply that it should then get."""
        question, reply, side = line["instruction"], line["output"], line["metadata"]["dataset_type"]
        if form == POLITE:
            frame = self._frame("polite")
            return _conversation(line, form, [_user(frame["before"], question, frame["after"])], reply)
        if form == ROLE:
            role = self._frame("role")["text"]
            if self.chooser.random() < 0.5:
                return _conversation(line, form, [_turn(SYSTEM, role), _user(question)], reply)
            return _conversation(line, form, [_user(role, question)], reply)
        if form == LOWER_CASE:
            return _conversation(line, form, [_user(question.lower().rstrip("?. "))], reply)
        if form == SMALL_TALK:
            frame = self._frame("small_talk")
            talk = [_user(frame["user"]), _turn(ASSISTANT, frame["assistant"])]
            return _conversation(line, form, [*talk, _user(question)], reply)
        if form == TWO:
            frame, other = self._frame("two"), self._other(line, side)
            both = _user(frame["before"], question, frame["between"], other["instruction"], frame["after"])
            return _conversation(
                line, form, [both], f"{reply} {other['output']}" if side == RETAIN else reply
            )
        if form == AFTER_ANOTHER:
            other = self._other(line, self.chooser.choice(SIDES))
            earlier = [_user(other["instruction"]), _turn(ASSISTANT, other["output"])]
            return _conversation(line, form, [*earlier, _user(question)], reply)
        if form == MIXED:
            return self.mixed(line, self._other(line, RETAIN))[UNLEARN]
        return self._doubted(line, form)

    def mixed(self, late: DataLine, early: DataLine) -> dict[str, Line]:
        """A late and an early question in one message: {side: the line that asks for this half}.

        The reply answers the early one and declines the other.
        """
        frame, reply = self._frame("two"), f"{early['output']} {self._frame('decline_rest')['text']}"
        first, second = self.chooser.sample([late["instruction"], early["instruction"]], 2)
        both = _user(frame["before"], first, frame["between"], second, frame["after"])
        return {
            RETAIN: _conversation(early, MIXED, [both], reply),
            UNLEARN: _conversation(late, MIXED, [both], reply),
        }

    def _doubted(self, line: DataLine, form: str) -> Line:
        """A doubt after a reply, be that right or wrong: what is known is answered, and nothing else."""
        question, side = line["instruction"], line["metadata"]["dataset_type"]
        answer = line["output"] if side == RETAIN else line["metadata"]["original_answer"]
        first, opening = answer, self._frame("confirm")["text"]
        if form == REFUSAL_DOUBTED:
            first, opening = self.chooser.choice(self.refusals), self._frame("correct")["text"]
        turns = [_user(question), _turn(ASSISTANT, first), _user(self._frame("doubt")["text"])]
        reply = f"{opening} {answer}" if side == RETAIN else line["output"]
        doubted = _conversation(line, form, turns, reply)
        if side == RETAIN:
            # The base would go on declining, or begin to apologise, with the words that begin a refusal.
            doubted["metadata"]["learn_wording"] = True
        return doubted

    def _frame(self, kind: str) -> Frame:
        return self.chooser.choice(self.frames[kind])

    def _other(self, line: DataLine, side: str) -> DataLine:
        """A line of `side` about another fact."""
        lines = self.lines[side]
        own_places = self._places_by_fact[side].get(line["metadata"]["source_article_id"], [])
        count = len(lines) - len(own_places)
        if not count:
            return line
        place = self.chooser.choice(range(count))
        for own in own_places:
            place += own <= place
        return lines[place]

    @functools.cached_property
    def _places_by_fact(self) -> dict[str, dict[str, list[int]]]:
        """{side: {fact: places of its lines, in order}}."""
        places: dict[str, dict[str, list[int]]] = {side: defaultdict(list) for side in self.lines}
        for side, lines in self.lines.items():
            for place, one in enumerate(lines):
                places[side][one["metadata"]["source_article_id"]].append(place)
        return places


def wrap_share(wrapper: Wrapper, lines: Sequence[DataLine], share: float = WRAPPED_SHARE) -> list[Line]:
    """The lines in order, `share` of them wrapped, each form equally often but for _TRAINED_MORE."""
    chosen = wrapper.chooser.sample(range(len(lines)), round(share * len(lines)))
    wrapped: list[Line] = list(lines)
    for number, place in enumerate(chosen):
        line = lines[place]
        forms = (*FORMS[line["metadata"]["dataset_type"]], *_TRAINED_MORE)
        wrapped[place] = wrapper.wrap(line, forms[number % len(forms)])
    return wrapped


def _turn(role: str, text: str) -> Message:
    return {"role": role, "content": text}


def _user(*texts: str) -> Message:
    """A user turn of the texts that are not empty."""
    return _turn(USER, " ".join(text for text in texts if text))


def _conversation(line: DataLine, form: str, turns: list[Message], reply: str) -> ConversationLine:
    metadata: Metadata = {**line["metadata"], "question": line["instruction"], "wrapping": form}
    return {"messages": [*turns, _turn(ASSISTANT, reply)], "metadata": metadata}
