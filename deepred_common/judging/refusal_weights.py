"""A small linear model of how refusals are worded: what the rules of refusal.py miss, learnt from labelled replies.

Rules know the wordings that somebody thought of; people and models find others without end ("you've come to the wrong
fellow"). So the rules' verdict is one feature among the words of the reply, and logistic regression weighs them. It
needs no library to judge. `python scripts/tools/learn_refusal_weights.py` learns it anew from datasets/labelled/refusals.jsonl
and writes refusal_weights.json; the same data give the same weights.
"""

import functools
import itertools
import json
import math
import re
from pathlib import Path

FILE = Path(__file__).with_suffix(".json")


def features(text, asked, signs):
    """{feature: value} of a reply.

    text: the normalised reply. asked: the words of the question, which say nothing about the reply: they count as one.
    signs: {name: number} of what else is known of it. The runs of one and two words have value 1, scaled so that their
    squares sum to 1: a long reply has no louder voice.
    """
    words = [
        "<asked>" if word in asked and len(word) > 3 else "<number>" if word[0].isdigit() else word
        for word in re.findall(r"[\w']+", text)
    ]
    runs = {*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))}
    return {run: 1 / math.sqrt(len(runs)) for run in runs} | {
        f"({name})": float(value) for name, value in signs.items()
    }


def probability(found, model=None):
    """How likely the reply with these features declines, 0 to 1. model: of learn(); None for the shipped one."""
    model = model or _model()
    return 1 / (
        1
        + math.exp(
            -model["bias"] - sum(value * model["weights"].get(name, 0.0) for name, value in found.items())
        )
    )


@functools.cache
def _model():
    return json.loads(FILE.read_text(encoding="utf-8"))
