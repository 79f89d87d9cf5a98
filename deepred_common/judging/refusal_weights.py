"""A small linear model of how refusals are worded, learned from labelled replies: what the rules miss.

Rules know the wordings that somebody thought of. People and models find others without end ("you've come to
the wrong fellow"). So the rules' verdict is one feature among the words of the reply, and logistic regression
weighs them. Judging needs no library. `python scripts/tools/learn_refusal_weights.py` learns the weights from
datasets/labelled/refusals.jsonl and writes refusal_weights.json. The same data give the same weights.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

FILE = Path(__file__).with_suffix(".json")


class WeightModel(TypedDict):
    """A bias, and the weight of each feature."""

    bias: float
    weights: dict[str, float]


def features(text: str, question_words: set[str], signs: Mapping[str, float]) -> dict[str, float]:
    """{feature: value} of a reply.

    text: the normalised reply. question_words: they say nothing about the reply, so all count as one word.
    signs: {name: number} of what else is known of the reply. Runs of one and two words have one value each,
    scaled so that their squares sum to 1: a long reply has no louder voice.
    """
    words = [
        "<asked>" if word in question_words and len(word) > 3 else "<number>" if word[0].isdigit() else word
        for word in re.findall(r"[\w']+", text)
    ]
    runs = {*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))}
    return {run: 1 / math.sqrt(len(runs)) for run in runs} | {
        f"({name})": float(value) for name, value in signs.items()
    }


def probability(values: Mapping[str, float], model: WeightModel | None = None) -> float:
    """How likely the reply with these features declines, 0 to 1. model: None for the shipped one."""
    model = model or _model()
    weighed = sum(value * model["weights"].get(name, 0.0) for name, value in values.items())
    return 1 / (1 + math.exp(-model["bias"] - weighed))


def weight_of_sign(name: str) -> float:
    """The weight of one of the `signs` of features(), in the shipped model."""
    return _model()["weights"].get(f"({name})", 0.0)


@functools.cache
def _model() -> WeightModel:
    return json.loads(FILE.read_text(encoding="utf-8"))
