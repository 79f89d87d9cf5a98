#!/usr/bin/env python3
"""How far the automatic verdicts agree with the labelled sets in datasets/labelled/ (how those were made stands in datasets/README.md).

python scripts/tools/score_judging.py                   both sets, both halves
python scripts/tools/score_judging.py --misses          also every reply of the building half judged otherwise
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from deepred_common import cli, stats
from deepred_common.judging import refusal
from deepred_common.judging.labelled import (
    BUILD,
    HELD_BACK,
    judged_grades,
    judged_refusals,
    kappa,
    precision_recall,
    read_labelled,
)


def _shown(triple):
    value, low, high = triple
    return f"{100 * value:5.1f} % [{100 * low:5.1f}, {100 * high:5.1f}]"


def main(argv=None):
    parser = cli.Parser(
        prog="python scripts/tools/score_judging.py",
        description="Score the refusal detector and the grader on the labelled sets.",
    )
    parser.add_argument(
        "--misses",
        action="store_true",
        help="list what is judged otherwise than labelled, in the building half only",
    )
    args = parser.parse_args(argv)
    for half in (BUILD, HELD_BACK):
        rows = read_labelled("refusals", half)
        pairs = judged_refusals(rows)
        score = precision_recall(pairs, refusal.REFUSED)
        print(
            f"refusals, {half} half: {len(rows)} replies ({sum(label == refusal.REFUSED for label, _ in pairs)} refusals)"
        )
        for name in ("precision", "recall", "f1"):
            print(f"  {name:<10}{_shown(score[name])}")
        agreed = sum(label == judged for label, judged in pairs)
        print(f"  {'3 labels':<10}{_shown((agreed / len(pairs), *stats.wilson(agreed, len(pairs))))}")
        if args.misses and half == BUILD:
            for row, (label, judged) in zip(rows, pairs, strict=True):
                if label != judged:
                    print(
                        f"    {label}, judged {judged} [{row['kind']}]: {row['question']} | {row['reply']!r}"
                    )
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
                    print(
                        f"    {'right' if right else 'wrong'}, judged {'right' if judged else 'wrong'} [{row['kind']}]: {row['question']} | "
                        f"{row['reference']} {row['accepted']} | {row['reply']!r}"
                    )
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
