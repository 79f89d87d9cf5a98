"""What the tasks of this folder share: the questions as lm_eval reads them, and this project's verdicts.

lm_eval loads this file by its path, so the project need not be installed. The names of the figures, and the
verdicts behind each, are those of evaluate_temporal.py.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import datasets

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from deepred_common import cli, paths
from deepred_common.cli import UserError
from deepred_common.dates import DEFAULT_CUTOFF
from deepred_common.evaluation import choices as given_answers
from deepred_common.evaluation import metrics, probe_examples, verdicts
from deepred_common.evaluation.probes import choice_by_probability
from deepred_common.examples import CHAT, Example, read_examples

CHAT_FILE = paths.ROOT / "datasets/chat/chat_val.jsonl"


def questions(
    side: str, test_file: str | None = None, cutoff: str = DEFAULT_CUTOFF, **_: Any
) -> dict[str, datasets.Dataset]:
    """The questions of a side: of its validation file, or of the file that `--metadata` names as test_file.

    cutoff: "YYYY-MM-DD", for the verdicts; from `--metadata`, too. lm_eval puts one user turn into a prompt:
    examples with earlier turns are left out. UserError if none is left.
    """
    default = CHAT_FILE if side == CHAT else paths.dataset_file(f"{side}_val")
    examples = read_examples(test_file or default, None if test_file else side)
    of_side = [example for example in examples if example.side == side]
    asked = [example for example in of_side if not example.earlier]
    if not asked:
        raise UserError(f"{test_file or default} has no {side} question without earlier turns.")
    if left_out := len(of_side) - len(asked):
        cli.warn(f"{left_out} of {len(of_side)} {side} examples have earlier turns and are left out")
    rows = [
        {
            "question": example.instruction,
            "reference": example.output,
            "cutoff": cutoff,
            "example": json.dumps(dataclasses.asdict(example)),
        }
        for example in asked
    ]
    return {"test": datasets.Dataset.from_list(rows)}


def rates(doc: dict[str, str], replies: list[str]) -> dict[str, float]:
    """{figure of the question's side: 1 if the reply counts in it, else 0}."""
    example = Example(**json.loads(doc["example"]))
    verdict = verdicts.verdict(example, replies[0], cutoff=doc["cutoff"])
    return {
        rate: float(verdict in counted)
        for rate, (side, counted) in metrics.RATES.items()
        if side == example.side
    }


def choices(side: str, cutoff: str = DEFAULT_CUTOFF, **_: Any) -> dict[str, datasets.Dataset]:
    """The held-out facts of a side: the question, how the reply begins, and four ways to go on.

    They are those of `--probes choice-by-probability`.
    """
    rows = [
        {
            "question": example.instruction,
            "begun": example.prefix,
            "choices": list(example.metadata[given_answers.KEY].values()),
            "right": 0,
        }
        for example in choice_examples(side, cutoff)
    ]
    return {"test": datasets.Dataset.from_list(rows)}


def choice_examples(side: str, cutoff: str = DEFAULT_CUTOFF) -> list[Example]:
    """The Examples of the held-out facts of a side, each with four given answers."""
    asked = [one for one in probe_examples.read_facts(None, cutoff) if one.side == side]
    return probe_examples.make_examples(asked, [choice_by_probability.FORM], cutoff)
