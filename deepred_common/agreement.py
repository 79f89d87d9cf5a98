"""How far the automatic verdicts agree with the labelled sets in datasets/labelled/ (how those were made stands in datasets/README.md).

    python -m deepred_common.agreement                      both sets, both halves
    python -m deepred_common.agreement --misses             also every reply of the building half judged otherwise

Each set has a half for building and a half that is held back: rules are made on the first, believed on the second.
"""

import argparse
import random
import sys

from deepred_common import cli, grading, paths, records, refusal, stats

FOLDER = paths.ROOT / "datasets" / "labelled"
BUILD, HELD_BACK = "build", "held_back"
_RESAMPLES = 1000


def read_labelled(name, half=None):
    """The rows of datasets/labelled/<name>.jsonl, of one half or both.

    refusals: question, reply, label (refusal.REFUSED, ANSWERED or BROKEN). grades: question, reference, accepted,
    reply, right. Both: kind (what makes it hard), source, half.
    """
    rows = [row for _, row in records.read_objects(FOLDER / f"{name}.jsonl")]
    return [row for row in rows if half in (None, row["half"])]


def precision_recall(pairs, positive):
    """{"precision", "recall", "f1": (value, low, high), "counts"} of (label, judged) pairs for one label, shares of 1.

    Intervals: Wilson 95 % for precision and recall, for F1 the 2.5th to 97.5th percentile of 1000 seeded resamples.
    """
    def count(sample):
        hit = sum(label == judged == positive for label, judged in sample)
        return hit, sum(judged == positive for _, judged in sample), sum(label == positive for label, _ in sample)

    def f1(sample):
        hit, said, true = count(sample)
        return 2 * hit / (said + true) if said + true else 1.0

    hit, said, true = count(pairs)
    return {"precision": (hit / said if said else 1.0, *stats.wilson(hit, said)),
            "recall": (hit / true if true else 1.0, *stats.wilson(hit, true)),
            "f1": (f1(pairs), *_resampled(f1, pairs)), "counts": {"hits": hit, "false": said - hit, "missed": true - hit}}


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


def judged_grades(rows, grade=grading.is_right):
    """[(right, judged right)] of labelled grades. grade(reply, reference, question, accepted) -> bool."""
    return [(row["right"], grade(row["reply"], row["reference"], row["question"], row["accepted"])) for row in rows]


def _shown(triple):
    value, low, high = triple
    return f"{100 * value:5.1f} % [{100 * low:5.1f}, {100 * high:5.1f}]"


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m deepred_common.agreement",
                                     description="Score the refusal detector and the grader on the labelled sets.")
    parser.add_argument("--misses", action="store_true", help="list what is judged otherwise than labelled, in the building half only")
    args = parser.parse_args(argv)
    for half in (BUILD, HELD_BACK):
        rows = read_labelled("refusals", half)
        pairs = judged_refusals(rows)
        score = precision_recall(pairs, refusal.REFUSED)
        print(f"refusals, {half} half: {len(rows)} replies ({sum(label == refusal.REFUSED for label, _ in pairs)} refusals)")
        for name in ("precision", "recall", "f1"):
            print(f"  {name:<10}{_shown(score[name])}")
        agreed = sum(label == judged for label, judged in pairs)
        print(f"  {'3 labels':<10}{_shown((agreed / len(pairs), *stats.wilson(agreed, len(pairs))))}")
        if args.misses and half == BUILD:
            for row, (label, judged) in zip(rows, pairs, strict=True):
                if label != judged:
                    print(f"    {label}, judged {judged} [{row['kind']}]: {row['question']} | {row['reply']!r}")
    for half in (BUILD, HELD_BACK):
        rows = read_labelled("grades", half)
        pairs = judged_grades(rows)
        agreed = sum(a == b for a, b in pairs)
        value, low, high = kappa(pairs)
        print(f"grades, {half} half: {len(rows)} triples ({sum(right for right, _ in pairs)} right)")
        print(f"  agreement {_shown((agreed / len(pairs), *stats.wilson(agreed, len(pairs))))}")
        print(f"  kappa     {value:.3f} [{low:.3f}, {high:.3f}]")
        if args.misses and half == BUILD:
            for row, (right, judged) in zip(rows, pairs, strict=True):
                if right != judged:
                    print(f"    {'right' if right else 'wrong'}, judged {'right' if judged else 'wrong'} [{row['kind']}]: {row['question']} | "
                          f"{row['reference']} {row['accepted']} | {row['reply']!r}")
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
