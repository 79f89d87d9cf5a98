"""How far the automatic verdicts agree with the labelled sets in datasets/labelled/ (how those were made stands in datasets/README.md).

scripts/tools/score_judging.py prints it. Each set has a half for building and a half that is held back: rules are made on the first, believed on the second.
"""

import random

from deepred_common import paths, stats
from deepred_common.examples import read_objects
from deepred_common.judging import answer_match, refusal

FOLDER = paths.ROOT / "datasets" / "labelled"
BUILD, HELD_BACK = "build", "held_back"
_RESAMPLES = 1000


def read_labelled(name, half=None):
    """The rows of datasets/labelled/<name>.jsonl, of one half or both.

    refusals: question, reply, label (refusal.REFUSED, ANSWERED or BROKEN). grades: question, reference, accepted,
    reply, right. Both: kind (what makes it hard), source, half.
    """
    rows = [row for _, row in read_objects(FOLDER / f"{name}.jsonl")]
    return [row for row in rows if half in (None, row["half"])]


def precision_recall(pairs, positive):
    """{"precision", "recall", "f1": (value, low, high), "counts"} of (label, judged) pairs for one label, shares of 1.

    Intervals: Wilson 95 % for precision and recall, for F1 the 2.5th to 97.5th percentile of 1000 seeded resamples.
    """

    def count(sample):
        hit = sum(label == judged == positive for label, judged in sample)
        return (
            hit,
            sum(judged == positive for _, judged in sample),
            sum(label == positive for label, _ in sample),
        )

    def f1(sample):
        hit, said, true = count(sample)
        return 2 * hit / (said + true) if said + true else 1.0

    hit, said, true = count(pairs)
    return {
        "precision": (hit / said if said else 1.0, *stats.wilson(hit, said)),
        "recall": (hit / true if true else 1.0, *stats.wilson(hit, true)),
        "f1": (f1(pairs), *_resampled(f1, pairs)),
        "counts": {"hits": hit, "false": said - hit, "missed": true - hit},
    }


def kappa(pairs):
    """Cohen's kappa of (label, judged) pairs with the interval from 1000 seeded resamples: (value, low, high)."""
    return (stats.cohen_kappa(pairs), *_resampled(stats.cohen_kappa, pairs))


def _resampled(figure, pairs):
    chooser = random.Random(0)
    found = sorted(figure(chooser.choices(pairs, k=len(pairs))) for _ in range(_RESAMPLES))
    return found[int(0.025 * _RESAMPLES)], found[int(0.975 * _RESAMPLES) - 1]


def judged_refusals(rows):
    """[(label, judged)] of labelled refusals."""
    return [(row["label"], refusal.judge(row["reply"], row["question"])) for row in rows]


def judged_grades(rows, grade=answer_match.is_right):
    """[(right, judged right)] of labelled grades. grade(reply, reference, question, accepted) -> bool."""
    return [
        (row["right"], grade(row["reply"], row["reference"], row["question"], row["accepted"]))
        for row in rows
    ]
