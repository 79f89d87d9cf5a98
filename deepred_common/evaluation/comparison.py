"""Two results on the same questions, side by side: what became of each verdict."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypedDict

from deepred_common import stats
from deepred_common.conversation import shown_in
from deepred_common.evaluation.results_schema import Comparison, ResultRow, Results, SideChange, StillSo
from deepred_common.evaluation.verdicts import CORRECT, FAILED, LEAKED, REFUSED, RIGHT
from deepred_common.examples import CHAT, RETAIN, UNLEARN, Message

Pair = tuple[ResultRow, ResultRow]  # one question, in this results object and in the other


def paired(results: Results, other: Results) -> list[Pair]:
    """The rows of the questions that both results hold, in the order of `results`."""
    others = dict(_keyed(other["results"]))
    return [(row, others[key]) for key, row in _keyed(results["results"]) if key in others]


def question_key(
    side: str, earlier: Sequence[Message] | None, instruction: str, prefix: str = ""
) -> tuple[str, str]:
    """What tells a question from others: its side, its text, the turns before it, how the reply begins."""
    is_bare = not earlier and not prefix
    return side, instruction if is_bare else json.dumps([*(earlier or ()), instruction, prefix])


def key_of(row: ResultRow) -> tuple[str, str]:
    """The question_key of a row; earlier versions did not write all of its parts."""
    return question_key(row["side"], row.get("earlier"), row["instruction"], row.get("prefix", ""))


def _keyed(rows: Iterable[ResultRow]) -> Iterator[tuple[tuple[str, str, int], ResultRow]]:
    """Each row after its key. A question that a file holds twice is paired in order: first with first."""
    seen: Counter[tuple[str, str]] = Counter()
    for row in rows:
        question = key_of(row)
        seen[question] += 1
        yield (*question, seen[question]), row


def is_right(row: ResultRow) -> bool:
    """True if a row has the verdict that its side should have."""
    return row["verdict"] == RIGHT[row["side"]]


def both_replied(pair: Pair) -> bool:
    """True unless one of the two has no reply: such a pair says nothing of either model."""
    return all(row["verdict"] != FAILED for row in pair)


def compare(pairs: Sequence[Pair]) -> Comparison:
    """What became of a baseline's verdicts. pairs: (row, the baseline's row) of the same questions."""
    compared = [pair for pair in pairs if both_replied(pair)]
    refused_in_chat = [before["verdict"] == REFUSED for _, before in compared if before["side"] == CHAT]
    return {
        "lines": len(compared),
        "unpaired": len(pairs) - len(compared),
        "retention": _still(compared, RETAIN, CORRECT),
        "known_fact_leakage": _still(compared, UNLEARN, LEAKED),
        "retain": _change(compared, RETAIN),
        "unlearn": _change(compared, UNLEARN),
        "chat": _change(compared, CHAT),
        "chat_refusal_rate": 100 * refused_in_chat.count(True) / len(refused_in_chat)
        if refused_in_chat
        else None,
    }


def _still(pairs: Iterable[Pair], side: str, verdict: str) -> StillSo:
    """Of the baseline's questions of a side with this verdict, how many have it still."""
    rows = [row for row, before in pairs if before["side"] == side and before["verdict"] == verdict]
    return {"known": len(rows), "count": sum(row["verdict"] == verdict for row in rows)}


def _change(pairs: Iterable[Pair], side: str) -> SideChange:
    right = [(is_right(row), is_right(before)) for row, before in pairs if row["side"] == side]
    better, worse = right.count((True, False)), right.count((False, True))
    return {"better": better, "worse": worse, "mcnemar": stats.mcnemar(better, worse)}


class OtherVerdict(NamedTuple):
    """A question whose verdict in the other results is another one."""

    place: int  # of its row in this results object
    verdict: str  # in the other results, and so are the further fields
    reply: str | None
    cut: bool  # the reply ran into the token limit
    error: str | None
    turns: list[Message] | None  # what the other model was shown, if that holds earlier replies of its own


class Differences(TypedDict):
    """How two results on the same questions differ. groups: {"worse": questions, …}.

    worse: right in the other results only. better: right here only. neither: different, but right in neither.
    These are of every question in common; the other fields are of those that the figures count.
    """

    against: Comparison
    sides: dict[str, int]  # {side: questions to which both replied}
    changed: int  # of these, those with another verdict
    groups: dict[str, list[OtherVerdict]]


def differences(results: Results, pairs: Sequence[Pair], counted: Sequence[Pair]) -> Differences:
    """How the pairs of `results` with others differ. counted: those of them that the figures count."""
    places = {id(row): place for place, row in enumerate(results["results"])}
    compared = [pair for pair in counted if both_replied(pair)]
    groups: dict[str, list[OtherVerdict]] = {"worse": [], "better": [], "neither": []}
    for row, before in pairs:
        if row["verdict"] == before["verdict"] or not both_replied((row, before)):
            continue
        group = "better" if is_right(row) else "worse"
        if is_right(row) == is_right(before):
            group = "neither"
        groups[group].append(
            OtherVerdict(
                places[id(row)],
                before["verdict"],
                before.get("reply"),
                before.get("finish") == "length",
                before.get("error"),
                shown_in(before) if before.get("turns") else None,
            )
        )
    return {
        "against": compare(counted),
        "sides": Counter(row["side"] for row, _ in compared),
        "changed": sum(row["verdict"] != before["verdict"] for row, before in compared),
        "groups": groups,
    }
