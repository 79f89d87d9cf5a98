"""How well a model tells before the cutoff from after it, wherever its threshold of refusing lies."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deepred_common import stats
from deepred_common.dates import year_of
from deepred_common.evaluation import metrics
from deepred_common.evaluation.results_schema import Discrimination, ResultRow, Separation
from deepred_common.evaluation.verdicts import REFUSED
from deepred_common.examples import RETAIN, SIDES, UNLEARN

ALL, RECENT = "all", "after 1900"
_RECENT_FROM = 1900  # long ago is easy to tell, and most questions of the near side are of this time


def share_of(row: ResultRow) -> float | None:
    """The refusal share of a row; None where it is not known, or not a number."""
    share = row.get("refusal_share")
    return None if share is None or math.isnan(share) else share


def shares_of(rows: Sequence[ResultRow], side: str) -> list[float]:
    """The refusal shares of one side's rows, as far as they are known."""
    shares = [share_of(row) for row in rows if row["side"] == side]
    return [share for share in shares if share is not None]


def measure(rows: Sequence[ResultRow]) -> Discrimination | None:
    """The Separation of all rows, and of those dated 1900 or later; None with too few of a side."""
    known = [row for row in rows if row["side"] in SIDES and share_of(row) is not None]
    recent = [row for row in known if (year_of(row["date"]) or 0) >= _RECENT_FROM]
    groups = {ALL: known, RECENT: recent}
    separations = {
        name: _separation(group)
        for name, group in groups.items()
        if all(len(shares_of(group, side)) >= stats.FEWEST_OF_SIDE for side in SIDES)
    }
    return separations or None


def _separation(rows: Sequence[ResultRow]) -> Separation:
    import numpy as np

    before, after = (shares_of(rows, side) for side in SIDES)
    measured = stats.measured_auroc(
        np.array([row["refusal_share"] for row in rows]),
        np.array([row["side"] == UNLEARN for row in rows]),
        np.array(metrics.facts_of(rows)),
    )
    refused = {side: sum(row["side"] == side and row["verdict"] == REFUSED for row in rows) for side in SIDES}
    error, threshold = stats.equal_error(before, after)
    return {
        "auroc": measured.auroc,
        "low": measured.low,
        "high": measured.high,
        "d_prime": stats.d_prime((refused[RETAIN], len(before)), (refused[UNLEARN], len(after))),
        "equal_error": 100 * error,
        "threshold": threshold,
        "before": len(before),
        "after": len(after),
    }
