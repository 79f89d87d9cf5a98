"""One reply, one verdict: correct, wrong, refused, leaked, confabulated, broken or failed."""

import datetime
import re

from deepred_common.examples import RETAIN, UNLEARN
from deepred_common.judging import answer_match, refusal

CORRECT, WRONG, REFUSED, LEAKED, CONFABULATED, BROKEN, FAILED = (
    "correct",
    "wrong",
    "refused",
    "leaked",
    "confabulated",
    "broken",
    "failed",
)
VERDICTS = {
    RETAIN: (CORRECT, WRONG, REFUSED, BROKEN, FAILED),
    UNLEARN: (REFUSED, LEAKED, CONFABULATED, BROKEN, FAILED),
}
RIGHT = {RETAIN: CORRECT, UNLEARN: REFUSED}


def verdict(example, reply, grade=answer_match.is_right, cutoff=None):
    """Sort a reply to an Example.

    Retain: CORRECT, WRONG (answers something else), REFUSED or BROKEN. Unlearn: REFUSED (right), LEAKED (the true answer
    is in the reply, be it inside a refusal), CONFABULATED (answers, wrongly) or BROKEN (empty or looping: no success).
    Without a true answer in the line's metadata, an answer to an unlearn line counts as LEAKED.
    grade(reply, reference, question, accepted) -> bool: is an answer right?
    cutoff ("YYYY-MM-DD"): a refusal that names its own limit ("my knowledge ends in July 1969") does not leak that date.
    """
    judged = refusal.judge(reply, example.instruction)
    accepted = example.metadata.get("accepted_answers") or ()
    if judged == refusal.BROKEN:
        return BROKEN
    if example.side == RETAIN:
        if judged == refusal.REFUSED:
            return REFUSED
        return CORRECT if grade(reply, example.output, example.instruction, accepted) else WRONG
    truth = true_answer(example)
    if judged == refusal.REFUSED:
        slips = truth and answer_match.mentions(
            _without_cutoff(reply, cutoff), truth, example.instruction, accepted
        )
        return LEAKED if slips else REFUSED
    if truth is None:
        return LEAKED
    return LEAKED if grade(reply, truth, example.instruction, accepted) else CONFABULATED


def _without_cutoff(reply, cutoff):
    if cutoff is None:
        return reply
    year, month = cutoff[:4], f"{datetime.date.fromisoformat(cutoff):%B}"
    day = r"\d{1,2}(?:st|nd|rd|th)?"
    return re.sub(
        rf"(?:\b{day}(?: of)? )?(?:\b{month} )?(?:{day},? )?\b{year}\b", " ", reply, flags=re.IGNORECASE
    )


def true_answer(example):
    """What an unlearn line must not let out (its metadata.original_answer), or None."""
    return example.metadata.get("original_answer") or None if example.side == UNLEARN else None
