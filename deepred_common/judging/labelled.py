"""The labelled sets in datasets/labelled/, and how far automatic verdicts agree with them.

datasets/README.md says how the sets were made. Each has a half for building and a half that is held out:
rules are made on the first and believed on the second. scripts/tools/score_judging.py prints the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict

from deepred_common import paths, stats
from deepred_common.json_lines import read_objects
from deepred_common.judging import answer_match, refusal

FOLDER = paths.ROOT / "datasets" / "labelled"
BUILD, HELD_OUT = "build", "held_back"  # as the files name them
# Kinds of rows: a reply that a model gave, and one made up as the reply to an everyday prompt.
REAL, TALK = "real", "talk"
RESAMPLES = 1000  # enough for a percentile interval to two digits
_SEED = 0

Interval = tuple[float, float, float]  # value, and the ends of its 95 % interval
Grade = Callable[[str, str, str, Sequence[str]], bool]


class Score(TypedDict):
    """How one label is judged: shares of 1, and how many pairs are behind them."""

    precision: Interval
    recall: Interval
    f1: Interval
    hits: int
    false: int
    missed: int


def read_labelled(name: str, half: str | None = None) -> list[dict]:
    """The rows of datasets/labelled/<name>.jsonl, of one half or both.

    refusals: question, reply, label (refusal.REFUSED, ANSWERED or BROKEN). grades: question, reference,
    accepted, reply, right. verdicts (labels are those of evaluation/verdicts.py): an example's instruction,
    side, output and metadata, earlier and prefix where it has them; reply, verdict; kind is the probe form.
    All: kind (what makes it hard), source, half.
    """
    rows = [row for _, row in read_objects(FOLDER / f"{name}.jsonl")]
    return [row for row in rows if half in (None, row["half"])]


def precision_recall(pairs: Sequence[tuple[object, object]], positive: object) -> Score:
    """The Score of (label, judged) pairs for the label `positive`; 1.0 where nothing is to be found.

    Intervals: Wilson 95 % for precision and recall; for F1 the percentile interval of a seeded bootstrap.
    """
    labelled = [label == positive for label, _ in pairs]
    judged = [verdict == positive for _, verdict in pairs]
    hits = sum(a and b for a, b in zip(labelled, judged, strict=True))
    found, true = sum(judged), sum(labelled)
    return {
        "precision": (hits / found if found else 1.0, *stats.wilson(hits, found)),
        "recall": (hits / true if true else 1.0, *stats.wilson(hits, true)),
        "f1": (_f1(labelled, judged), *_bootstrap(_f1, labelled, judged)),
        "hits": hits,
        "false": found - hits,
        "missed": true - hits,
    }


def kappa(pairs: Sequence[tuple[bool, bool]]) -> Interval:
    """Cohen's kappa of (label, judged) pairs, with the percentile interval of a seeded bootstrap."""
    labelled = [label for label, _ in pairs]
    judged = [verdict for _, verdict in pairs]
    return (_kappa(labelled, judged), *_bootstrap(_kappa, labelled, judged))


def judged_refusals(rows: Sequence[dict]) -> list[tuple[str, str]]:
    """[(label, judged)] of labelled refusals."""
    return [(row["label"], refusal.judge(row["reply"], row["question"])) for row in rows]


def judged_grades(rows: Sequence[dict], grade: Grade = answer_match.is_right) -> list[tuple[bool, bool]]:
    """[(right, judged right)] of labelled grades."""
    return [
        (row["right"], grade(row["reply"], row["reference"], row["question"], row["accepted"]))
        for row in rows
    ]


def _f1(labelled: Sequence[bool], judged: Sequence[bool]) -> float:
    hits = sum(a and b for a, b in zip(labelled, judged, strict=True))
    found_and_true = sum(judged) + sum(labelled)
    return 2 * hits / found_and_true if found_and_true else 1.0


def _kappa(labelled: Sequence[bool], judged: Sequence[bool]) -> float:
    return stats.cohen_kappa(zip(labelled, judged, strict=True))


def _bootstrap(
    figure: Callable[[Sequence[bool], Sequence[bool]], float],
    labelled: Sequence[bool],
    judged: Sequence[bool],
) -> tuple[float, float]:
    """The 95 % percentile interval of a figure of paired labels."""
    from scipy.stats import bootstrap

    interval = bootstrap(
        (labelled, judged),
        figure,
        n_resamples=RESAMPLES,
        paired=True,
        vectorized=False,
        method="percentile",
        random_state=_SEED,
    ).confidence_interval
    return float(interval.low), float(interval.high)
