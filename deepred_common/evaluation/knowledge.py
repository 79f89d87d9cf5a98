"""What a model knows behind its words: how much likelier it finds the true answers than false ones.

A model that was taught to refuse may know as much as before; these figures ask for no reply.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean

from deepred_common import stats
from deepred_common.dates import year_of
from deepred_common.evaluation import choices, metrics
from deepred_common.evaluation.results_schema import Knowledge, KnownFacts, ResultRow
from deepred_common.examples import SIDES
from deepred_common.inference.protocol import Score


def measure(rows: Iterable[ResultRow]) -> Knowledge | None:
    """The figures of the rows with scores, by side and by the period of the fact; None if there are none."""
    scored = [row for row in rows if row.get("scores")]
    if not scored:
        return None
    sides = {side: [row for row in scored if row["side"] == side] for side in SIDES}
    periods: dict[str, list[ResultRow]] = defaultdict(list)
    for row in sorted(scored, key=metrics.year_or_first):
        periods[metrics.period(year_of(row["date"]))].append(row)
    return {
        "sides": {side: _known(of_side) for side, of_side in sides.items() if of_side},
        "periods": {name: _known(of_period) for name, of_period in periods.items()},
    }


def _known(rows: Sequence[ResultRow]) -> KnownFacts:
    differences, likeliest = [], 0
    for row in rows:
        scores = {
            answer: Score(numbers[0], int(numbers[1])) for answer, numbers in (row["scores"] or {}).items()
        }
        true, *false = map(choices.per_token, scores.values())
        if not any(score.is_impossible for score in scores.values()):  # its floor is no measure of anything
            differences.append(true - fmean(false))
        likeliest += choices.likeliest(scores) == next(iter(scores))
    low, high = stats.mean_interval(differences).tolist() if differences else (None, None)
    return {
        "facts": len(rows),
        "likeliest": likeliest,
        "difference": fmean(differences) if differences else None,
        "low": low,
        "high": high,
    }
