"""How an evaluation is done, as evaluate_temporal.py's flags say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deepred_common.inference.protocol import BackendSettings


@dataclass(frozen=True, kw_only=True)
class EvalSettings(BackendSettings):
    """The settings of an evaluation; the fields are named like the flags.

    limit: at most so many questions, chosen by `seed`; None asks all. samples: sampled replies to each
    question, beside the greedy one, at `temperature`, drawn by `seed`; None for no such. cutoff:
    "YYYY-MM-DD". output: the results file. resume, overwrite: what to do with one that exists. judge_url,
    judge_model: the model that grades, or None. verbose: print each question, reply and verdict.
    """

    limit: int | None
    seed: int
    cutoff: str
    output: Path
    overwrite: bool
    resume: bool
    judge_url: str | None
    judge_model: str | None
    verbose: bool
    samples: int | None = None
    temperature: float = 1.0
