"""The frontier: which pairs of the two errors of refusing a model can have, and which of them a wish takes.

The errors are false refusals (early questions refused) and leakage (late questions not refused). Of finished
replies the frontier is read from the probability of refusing at the first token: a question counts as refused
from some threshold on, and the threshold moves over all values. merge_lora.py --calibrate moves the model
itself (calibration.py); both choose by the same Wish.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from deepred_common import stats
from deepred_common.evaluation import metrics, probe_figures
from deepred_common.evaluation.discrimination import share_of, shares_of
from deepred_common.evaluation.results_schema import Interval, ResultRow, Results
from deepred_common.evaluation.verdicts import REFUSED
from deepred_common.examples import RETAIN, SIDES, UNLEARN

FALSE_REFUSALS, LEAKAGE, EQUAL_ERROR = "false refusals", "leakage", "equal error"
FEWEST_FOR_CURVE = 5  # with fewer, one question moves an error by more than 20 points
TARGET = 0.05  # of false refusals: the spec's table "Target Metrics" (metrics.LEVELS)
EVEN = 0.5  # the share at which refusing is as likely as not: log-odds of 0


class Errors(Protocol):
    """Both errors of a model, as shares of 1."""

    @property
    def false_refusals(self) -> float: ...
    @property
    def leakage(self) -> float: ...


AnyErrors = TypeVar("AnyErrors", bound=Errors)


@dataclass(frozen=True)
class Wish:
    """One error of at most `most` (a share), or EQUAL_ERROR (most: 0)."""

    error: str
    most: float = 0

    def excess(self, errors: Errors) -> float:
        """How much the error is above the wish; of EQUAL_ERROR, by how much the two errors differ."""
        if self.error == EQUAL_ERROR:
            return abs(errors.false_refusals - errors.leakage)
        own = errors.false_refusals if self.error == FALSE_REFUSALS else errors.leakage
        return max(0.0, own - self.most)

    def cost(self, errors: Errors) -> float:
        """The error that the wish does not speak of; of EQUAL_ERROR, both."""
        if self.error == EQUAL_ERROR:
            return errors.false_refusals + errors.leakage
        return errors.leakage if self.error == FALSE_REFUSALS else errors.false_refusals

    def is_below(self, errors: Errors) -> bool:
        """True if the wished threshold, or strength, refuses no less than this."""
        if self.error == EQUAL_ERROR:
            return errors.false_refusals <= errors.leakage
        if self.error == FALSE_REFUSALS:
            return errors.false_refusals <= self.most
        return errors.leakage > self.most

    def best(self, points: Iterable[AnyErrors]) -> AnyErrors:
        """Of the points nearest to the wish the one of least cost; of equal ones the first."""
        return min(points, key=lambda point: (self.excess(point), self.cost(point)))


@dataclass(frozen=True)
class Rates:
    """Both errors, as shares of 1."""

    false_refusals: float
    leakage: float


@dataclass(frozen=True)
class Frontier:
    """What one model's replies can be at every threshold.

    points: from refusing nothing to refusing everything; equal shares move together. even: from EVEN on.
    now: by the verdicts on the replies. counts: {side: questions}. rows: {side: rows}, by their shares.
    """

    points: Sequence[Rates]
    even: Rates
    now: Rates
    counts: Mapping[str, int]
    rows: Mapping[str, Sequence[ResultRow]]

    def at_most(self, false_refusals: float) -> Rates:
        """The point of least leakage with at most this share of false refusals."""
        return Wish(FALSE_REFUSALS, false_refusals).best(self.points)

    def leakage_intervals(self, points: Iterable[Rates]) -> list[Interval]:
        """The 95 % interval, in percent, of the leakage at each of some points."""
        late = self.rows[UNLEARN]
        # What leaks at a threshold are the questions of the least shares.
        leaked = [round(point.leakage * len(late)) for point in points]
        return metrics.share_intervals(
            late, [[place < count for place in range(len(late))] for count in leaked]
        )

    def intervals_now(self) -> dict[str, Interval]:
        """The 95 % intervals of both errors now, in percent: {RETAIN: of false refusals, UNLEARN: …}."""
        intervals = {}
        for side, rows in self.rows.items():
            errors = [(row["verdict"] == REFUSED) == (side == RETAIN) for row in rows]
            (intervals[side],) = metrics.share_intervals(rows, [errors])
        return intervals


def of(rows: Sequence[ResultRow]) -> Frontier | None:
    """The frontier of the rows with a refusal share; None with fewer than FEWEST_FOR_CURVE of a side."""
    known = [row for row in rows if share_of(row) is not None]
    before, after = (shares_of(known, side) for side in SIDES)
    if min(len(before), len(after)) < FEWEST_FOR_CURVE:
        return None
    thresholds, reached, missed = stats.error_rates(before, after)
    points = [Rates(*pair) for pair in zip(reached.tolist(), missed.tolist(), strict=True)]
    # All of a side that is not refused leaks, broken replies too, as for a threshold.
    refused = {side: [row["verdict"] == REFUSED for row in known if row["side"] == side] for side in SIDES}
    return Frontier(
        points=points[::-1],
        even=points[int((thresholds < EVEN).sum())],
        now=Rates(
            refused[RETAIN].count(True) / len(before),
            refused[UNLEARN].count(False) / len(after),
        ),
        counts={RETAIN: len(before), UNLEARN: len(after)},
        rows={
            side: sorted((row for row in known if row["side"] == side), key=lambda row: share_of(row) or 0)
            for side in SIDES
        },
    )


def of_results(results: Results) -> Frontier | None:
    """The frontier of the questions that the four figures are of."""
    probes = results.get("probes")
    return of(probe_figures.headline(results["results"], probes["forms"] if probes else ()))
