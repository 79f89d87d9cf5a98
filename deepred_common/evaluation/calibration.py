"""Calibration: how strong an adapter must be for the two errors of refusing to be as a user wishes.

The strength multiplies what the adapter adds to the weights: 0 is the base, 1 the trained model (Wortsman et
al., arXiv 2109.01903, do so with whole models). A stronger one refuses more on both sides of the cutoff.
A reply counts as refused if the likeliest first token begins a refusal: of the quickstart's 220 validation
replies, 217 are judged the same when read whole. So one strength costs one reading of the prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepred_common import refusal_openers, stats
from deepred_common.cli import UserError
from deepred_common.evaluation.frontier import EQUAL_ERROR, Wish
from deepred_common.examples import MIXED, RETAIN, SIDES, UNLEARN, Example, count_sides, read_examples
from deepred_common.inference.local_model import LocalModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# No less than 0.6: there the quickstart's AUROC on held-out questions is 0.83, not 0.87 (docs/benchmarks.md).
STRENGTHS = (0.6, 0.8, 1.0, 1.2, 1.4)
HALVINGS = 4  # of the step between two of STRENGTHS: to 0.0125
MOST_TRIED = len(STRENGTHS) + HALVINGS
LEAST_OF_SIDE = 50  # with fewer, the 95 % interval of a rate of 5 % reaches beyond 16 %
BATCH_SIZE = 16


@dataclass(frozen=True)
class Point:
    """What an adapter of one strength does, as shares of 1.

    false_refusals: of the retain examples, those refused. leakage: of the unlearn examples, those not
    refused. auroc: how well the probability of refusing tells the sides apart.
    """

    strength: float
    false_refusals: float
    leakage: float
    auroc: float


@dataclass(frozen=True)
class Calibration:
    """The chosen strength, or the nearest where none within reach keeps the wish.

    frontier: of STRENGTHS. counts: {side: examples}.
    """

    wish: Wish
    chosen: Point
    is_kept: bool
    frontier: list[Point]
    counts: Mapping[str, int]


def read(paths: Sequence[Path]) -> list[Example]:
    """The retain and unlearn examples of the files; UserError with fewer than LEAST_OF_SIDE of a side.

    Left out is what the first token of a reply cannot show: a reply that is begun, and an early and a late
    question in one message, of which one is answered.
    """
    examples = [example for path in paths for example in read_examples(path)]
    usable = [
        example
        for example in examples
        if example.side in SIDES and not example.prefix and example.metadata.get("wrapping") != MIXED
    ]
    names = " ".join(str(path) for path in paths)
    counts = count_sides(usable)
    for side in SIDES:
        count = counts[side]
        if not count:
            raise UserError(
                f"{names}: no {side} examples. --calibrate needs both sides: give the retain and the unlearn "
                "file, one after the other."
            )
        if count < LEAST_OF_SIDE:
            low, high = stats.wilson(round(count / 20), count)
            few = "example is" if count == 1 else "examples are"
            raise UserError(
                f"{names}: {count} {side} {few} too few. A rate of 5 % measured on so few could be "
                f"anything from {low:.0%} to {high:.0%}; --calibrate needs {LEAST_OF_SIDE} of each side."
            )
    return usable


def measure(
    model: Any, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], strength: float
) -> Point:
    """The Point of a PeftModel at a strength, on retain and unlearn examples.

    UserError where the first token does not say whether a reply refuses: before a thought, say.
    """
    from peft.helpers import rescale_adapter_scale

    shares: dict[str, list[float]] = {side: [] for side in SIDES}
    refused = dict.fromkeys(SIDES, 0)
    with rescale_adapter_scale(model, strength):
        asked = LocalModel(model, tokenizer, 1, BATCH_SIZE, opens_reply=True)
        for number, reply in asked.ask([example.prompt for example in examples]):
            if reply.refusal_share is None:
                raise UserError(
                    reply.error
                    or "--calibrate cannot read from the first token whether this model refuses: it writes a "
                    "thought first, or its vocabulary is not written as text."
                )
            side = examples[number].side
            shares[side].append(reply.refusal_share)
            refused[side] += refusal_openers.begins_refusal(reply.text or "")
    return Point(
        strength,
        refused[RETAIN] / len(shares[RETAIN]),
        (len(shares[UNLEARN]) - refused[UNLEARN]) / len(shares[UNLEARN]),  # 1 - 0.95 is more than 0.05
        stats.auroc(shares[RETAIN], shares[UNLEARN]),
    )


def of_adapter(
    model: Any, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], wish: Wish
) -> Calibration:
    """Calibrate a PeftModel on retain and unlearn examples, with a progress bar; UserError as `measure`."""
    from tqdm import tqdm

    return calibrate(
        lambda strength: measure(model, tokenizer, examples, strength),
        wish,
        count_sides(examples),
        progress=lambda strengths: tqdm(strengths, "calibrating", MOST_TRIED, unit=" strengths"),
    )


def calibrate(
    measured: Callable[[float], Point],
    wish: Wish,
    counts: Mapping[str, int],
    progress: Callable[[Iterator[float]], Iterable[float]] = iter,
) -> Calibration:
    """Find the strength that keeps the wish at the least cost: among STRENGTHS, then by bisection.

    measured: of `measure`. progress: wraps the strengths that are tried, for instance tqdm.
    """
    points: list[Point] = []
    for strength in progress(_tried(points, wish)):
        points.append(measured(strength))
    chosen = wish.best(sorted(points, key=lambda point: abs(math.log(point.strength))))
    is_kept = not wish.excess(chosen)
    if wish.error == EQUAL_ERROR:  # the two errors may also cross between two strengths
        is_kept |= len({wish.is_below(point) for point in points}) > 1
    return Calibration(wish, chosen, is_kept, points[: len(STRENGTHS)], counts)


def _tried(points: Sequence[Point], wish: Wish) -> Iterator[float]:
    """The strengths to try: STRENGTHS, then the middle of where the wish lies; points: of those before."""
    yield from STRENGTHS
    frontier = points[: len(STRENGTHS)]
    above = next((place for place, point in enumerate(frontier) if not wish.is_below(point)), len(frontier))
    if above in (0, len(frontier)):
        return  # the wish is kept at an end, or nowhere
    low, high = frontier[above - 1].strength, frontier[above].strength
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        yield middle
        if wish.is_below(points[-1]):
            low = middle
        else:
            high = middle
