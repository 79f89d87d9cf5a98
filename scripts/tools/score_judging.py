#!/usr/bin/env python3
"""Score the automatic verdicts on the labelled sets in datasets/labelled/ (see datasets/README.md).

python scripts/tools/score_judging.py                   all sets, both halves
python scripts/tools/score_judging.py --misses          also what is judged wrongly in the half "build"
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from deepred_common import cli, stats
from deepred_common.evaluation.labelled_verdicts import judged_verdicts
from deepred_common.judging import refusal
from deepred_common.judging.labelled import (
    BUILD,
    HELD_OUT,
    REAL,
    TALK,
    Interval,
    judged_grades,
    judged_refusals,
    kappa,
    precision_recall,
    read_labelled,
)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.Parser(description="Score the refusal detector and the answer matcher on the labelled sets.")
    parser.add_argument(
        "--misses",
        action="store_true",
        help="list what is judged otherwise than labelled, of the half for building only",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the scores of all sets and both halves."""
    args = build_parser().parse_args(argv)
    for half in (BUILD, HELD_OUT):
        rows = read_labelled("refusals", half)
        for name, chosen in (
            ("made up to be hard", [row for row in rows if row["kind"] not in (REAL, TALK)]),
            ("made up, everyday talk", [row for row in rows if row["kind"] == TALK]),
            ("real", [row for row in rows if row["kind"] == REAL]),
        ):
            _print_refusals(f"refusals, half {half}, {name}", chosen, args.misses and half == BUILD)
    for half in (BUILD, HELD_OUT):
        _print_grades(f"answers, half {half}", read_labelled("grades", half), args.misses and half == BUILD)
    for half in (BUILD, HELD_OUT):
        rows = read_labelled("verdicts", half)
        _print_verdicts(f"verdicts on probe forms, half {half}", rows, args.misses and half == BUILD)
    return cli.EXIT_OK


def _print_refusals(title: str, rows: list[dict], misses: bool) -> None:
    pairs = judged_refusals(rows)
    score = precision_recall(pairs, refusal.REFUSED)
    refused = sum(label == refusal.REFUSED for label, _ in pairs)
    agreed = sum(label == judged for label, judged in pairs)
    print(f"{title}: {len(rows)} replies ({refused} refusals)")
    print(f"  precision {_percent(score['precision'])}   {score['false']} answers judged refusals")
    print(f"  recall    {_percent(score['recall'])}   {score['missed']} refusals missed")
    print(f"  F1        {_percent(score['f1'])}")
    print(f"  3 labels  {_percent((agreed / len(pairs), *stats.wilson(agreed, len(pairs))))}")
    for row, (label, judged) in zip(rows, pairs, strict=True):
        if misses and label != judged:
            print(f"    {label}, judged {judged} [{row['kind']}]: {row['question']} | {row['reply']!r}")


def _print_grades(title: str, rows: list[dict], misses: bool) -> None:
    pairs = judged_grades(rows)
    agreed = sum(right == judged for right, judged in pairs)
    value, low, high = kappa(pairs)
    print(f"{title}: {len(rows)} ({sum(right for right, _ in pairs)} right)")
    print(f"  agreement {_percent((agreed / len(pairs), *stats.wilson(agreed, len(pairs))))}")
    print(f"  kappa     {value:.3f} [{low:.3f}, {high:.3f}]")
    for row, (right, judged) in zip(rows, pairs, strict=True):
        if misses and right != judged:
            verdict = "right, judged wrong" if right else "wrong, judged right"
            reference = f"{row['reference']} {row['accepted']}"
            print(f"    {verdict} [{row['kind']}]: {row['question']} | {reference} | {row['reply']!r}")


def _print_verdicts(title: str, rows: list[dict], misses: bool) -> None:
    pairs = judged_verdicts(rows)
    agreed = sum(label == judged for label, judged in pairs)
    print(f"{title}: {len(rows)}")
    print(f"  agreement {_percent((agreed / len(pairs), *stats.wilson(agreed, len(pairs))))}")
    for row, (label, judged) in zip(rows, pairs, strict=True):
        if misses and label != judged:
            print(f"    {label}, judged {judged} [{row['kind']}]: {row['instruction']} | {row['reply']!r}")


def _percent(interval: Interval) -> str:
    value, low, high = interval
    return f"{100 * value:5.1f} % [{100 * low:5.1f}, {100 * high:5.1f}]"


if __name__ == "__main__":
    sys.exit(cli.run(main))
