"""The statistics behind an evaluation: intervals, paired tests, agreement, and the fitted cutoff curve.

Nothing here knows about models, replies or files. scipy and numpy are imported when a function is called.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# Half the 95th percentile of chi-squared with one degree of freedom: a log-likelihood this far below the
# best one bounds a 95 % interval by profile likelihood (Venzon and Moolgavkar, Appl. Statist. 37, 1988).
LIKELIHOOD_DROP = 3.841458820694124 / 2
DRAWS = 1000  # of a bootstrap
FEWEST_OF_SIDE = 10  # an AUROC of fewer before or after the cutoff says nothing
LEAST_FACTS = 20  # with fewer, four parameters are not determined
EARLIEST_YEAR = 1700
PLACES_A_YEAR = 4  # dates are rounded to a quarter, so that 15 000 facts are a few hundred places
# The cutoff is searched among this many dates between these shares of the facts, then around the best one.
COARSE_MIDDLES, SEARCHED_SHARES = 150, (0.02, 0.98)
FINE_MIDDLES, FINE_STEPS = 41, 2
# The curve's scales tried, in years: from a fall within weeks to none at all within the data.
LEAST_SCALE, LARGEST_SCALE, SCALES = 0.1, 30, 12
ITERATIONS = 40  # of expectation-maximisation; after 400, floor and ceiling differ by less than 0.001
LEAST_RATE = 1e-4  # floor and ceiling stay this far from 0 and 1, whose logarithms are not finite


def wilson(count: float, total: float) -> tuple[float, float]:
    """The Wilson 95 % score interval of a proportion, (low, high) as shares of 1; (0, 1) for an empty sample.

    An effective sample size need not be whole. Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927).
    """
    if not total:
        return 0.0, 1.0
    share, z = count / total, NormalDist().inv_cdf(0.975)
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    width = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2) / (1 + z**2 / total)
    # At its ends rounding would leave a little beside 0 and 1.
    return (middle - width if share > 0 else 0.0), (middle + width if share < 1 else 1.0)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar p-value from the counts of discordant pairs (right in one of two only).

    Source: Q. McNemar, Psychometrika 12 (1947); the exact form is a binomial test of the discordant pairs
    at 1/2.
    """
    if not only_first + only_second:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def cohen_kappa(pairs: Iterable[tuple[Hashable, Hashable]]) -> float:
    """Cohen's kappa, chance-corrected agreement, of pairs of labels by two judges; 1 is full agreement.

    Source: J. Cohen, Educ. Psychol. Meas. 20 (1960). 1.0 if both give one and the same label throughout.
    """
    pairs = list(pairs)
    total = len(pairs)
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    observed = sum(a == b for a, b in pairs) / total
    chance = sum(first[label] * second[label] for label in first) / total**2
    return 1.0 if chance == 1 else (observed - chance) / (1 - chance)


def bootstrap(figure: Callable[[np.ndarray], Any], groups: Sequence[Any] | np.ndarray) -> np.ndarray:
    """The 95 % interval of a figure, (low, high), by a percentile bootstrap over groups of values.

    groups: the group of each value; those of one group are drawn together. figure: of how often each value
    is drawn, a number or an array of them; None leaves the draw out. Source: Efron and Tibshirani, An
    Introduction to the Bootstrap (1993), 13.3; of groups: Field and Welsh, J. R. Stat. Soc. B 69 (2007).
    """
    import numpy as np

    _, group = np.unique(groups, return_inverse=True)
    count = group.max() + 1
    chooser = np.random.default_rng(0)
    drawn = (np.bincount(chooser.integers(count, size=count), minlength=count) for _ in range(DRAWS))
    figures = [value for counts in drawn if (value := figure(counts[group])) is not None]
    interval: np.ndarray = np.quantile(figures, (0.025, 0.975), axis=0)
    return interval


def mean_interval(values: Sequence[float] | np.ndarray, groups: Sequence[Any] | None = None) -> np.ndarray:
    """The 95 % interval of the mean of values, or of their columns, by bootstrap over groups of values.

    groups: None if each value is one of its own. One group gives no width.
    """
    groups = range(len(values)) if groups is None else groups
    return bootstrap(lambda drawn: drawn @ values / drawn.sum(), groups)


def grouped_intervals(values: np.ndarray, groups: Sequence[Any]) -> list[tuple[float, float]]:
    """The 95 % interval, (low, high), of the mean of each column of values: shares of 1, a row each.

    Wilson's of the effective sample size: the number of values by the design effect (Kish, Survey Sampling,
    1965, 8.2; the interval: Franco, Little, Louis and Slud, J. Surv. Stat. Methodol. 7, 2019). The variance
    is that of a ratio of group totals, and no less than without groups. One imaginary group of ones and one
    of zeros count in it, not in the mean: from a few rare events no one can tell how alike groups are, and
    without any they would be taken for independent.
    """
    import numpy as np

    _, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group).astype(float)
    usual = sizes.mean()
    all_sizes = np.array([*sizes, usual, usual])
    total = all_sizes.sum()
    intervals = []
    for column in values.T:
        totals = np.array([*np.bincount(group, column), usual, 0])
        mean = totals.sum() / total
        grouped = ((totals - mean * all_sizes) ** 2).sum() * len(totals) / (len(totals) - 1)
        alone = ((column - mean) ** 2).sum() + usual * ((1 - mean) ** 2 + mean**2)
        effective = len(column) * total * mean * (1 - mean) / max(grouped, alone)
        intervals.append(wilson(float(column.mean()) * effective, effective))
    return intervals


def auroc(before: Sequence[float], after: Sequence[float]) -> float:
    """The area under the ROC curve: how often a score of `after` is larger than one of `before`.

    Equal scores count one half; 0.5 is chance. Source: Hanley and McNeil, Radiology 143 (1982); by
    scipy.stats.mannwhitneyu.
    """
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(after, before).statistic) / (len(before) * len(after))


def auroc_error(area: float, before: int, after: int) -> float:
    """The standard error of an AUROC `area`, measured on so many scores of each side.

    Source: Hanley and McNeil, Radiology 143 (1982), their formula for exponential scores.
    """
    both_after, both_before = area / (2 - area), 2 * area**2 / (1 + area)
    spread = (after - 1) * (both_after - area**2) + (before - 1) * (both_before - area**2)
    return math.sqrt(max(0.0, area * (1 - area) + spread) / (before * after))


@dataclass(frozen=True)
class MeasuredAuroc:
    """An AUROC with its 95 % interval. count: scores it was measured on."""

    auroc: float
    low: float
    high: float
    count: int


def measured_auroc(scores: np.ndarray, is_after: np.ndarray, groups: np.ndarray) -> MeasuredAuroc:
    """The AUROC of `scores` for `is_after`, its interval by bootstrap over `groups`; all of one length."""
    import numpy as np
    from scipy.stats import rankdata

    # An AUROC of scores that count several times needs one sort.
    rank = rankdata(scores, "dense").astype(int) - 1

    def weighted(weights: np.ndarray) -> Any:
        if not 0 < weights[is_after].sum() < weights.sum():
            return None
        after = np.bincount(rank, weights * is_after, rank.max() + 1)
        before = np.bincount(rank, weights * ~is_after, rank.max() + 1)
        return float((after * (before.cumsum() - before / 2)).sum() / (after.sum() * before.sum()))

    low, high = bootstrap(weighted, groups)
    return MeasuredAuroc(weighted(np.ones(len(scores))), float(low), float(high), len(scores))


def d_prime(before: tuple[int, int], after: tuple[int, int]) -> float:
    """d': z of the share that is refused after the cutoff less z of the share refused before it.

    before, after: (refused, all). Shares of none and all count as half a question more and less. Source:
    Macmillan and Creelman, Detection Theory (2005).
    """

    def z(refused: int, total: int) -> float:
        return NormalDist().inv_cdf(min(max(refused / total, 0.5 / total), 1 - 0.5 / total))

    return z(*after) - z(*before)


def error_rates(before: Sequence[float], after: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(thresholds, reached, missed): each score as a threshold, rising, and last one that no score reaches.

    reached: the share of `before` at each threshold or above it. missed: the share of `after` below it.
    """
    import numpy as np

    thresholds = np.unique([*before, *after, math.inf])
    # Counts by counts: 1 - 0.95 is more than 0.05.
    reached = (len(before) - np.searchsorted(np.sort(before), thresholds)) / len(before)
    missed = np.searchsorted(np.sort(after), thresholds) / len(after)
    return thresholds, reached, missed


def equal_error(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """(error, threshold): the share of `before` that reaches a threshold, where as much of `after` misses it.

    The threshold is one of the scores. Where none makes both shares equal, the nearest one counts, and the
    mean of its two shares.
    """
    thresholds, reached, missed = error_rates(before, after)
    best = abs(reached - missed)[:-1].argmin()
    return float(reached[best] + missed[best]) / 2, float(thresholds[best])


@dataclass(frozen=True)
class Curve:
    """A fitted curve of refusal against the fact's date. Dates and widths in years, shares between 0 and 1.

    share(t) = floor + (ceiling - floor) / (1 + exp(-(t - middle) / scale))
    cutoff: where share(t) is one half, the effective cutoff; None if the curve never crosses it.
    low, high: 95 % interval of `middle` by profile likelihood; None where the data do not bound it.
    width: years in which the curve climbs from 10 % to 90 % of its rise.
    """

    floor: float
    ceiling: float
    middle: float
    scale: float
    low: float | None
    high: float | None

    def share(self, year: float) -> float:
        """The fitted share of refusals for facts of `year`."""
        from scipy.special import expit

        return self.floor + (self.ceiling - self.floor) * float(expit((year - self.middle) / self.scale))

    def as_dict(self) -> dict[str, float | None]:
        """The fields, with cutoff and width, as JSON values."""
        return dataclasses.asdict(self) | {"cutoff": self.cutoff, "width": self.width}

    @property
    def cutoff(self) -> float | None:
        if not self.floor < 0.5 < self.ceiling:
            return None
        return self.middle + self.scale * math.log((0.5 - self.floor) / (self.ceiling - 0.5))

    @property
    def width(self) -> float:
        return 2 * math.log(9) * self.scale  # at 10 % and 90 % of the rise the exponent is ln 9, each way


def fit_curve(
    years: Sequence[float], refused: Sequence[bool], earliest: float = EARLIEST_YEAR
) -> Curve | None:
    """Fit a Curve by maximum likelihood to facts' dates and whether each was refused.

    years: with fractions. refused: of the same length. earliest: older facts count as of this year. The
    four-parameter logistic of psychometrics, with guess and lapse rates (Wichmann and Hill, Percept.
    Psychophys. 63, 2001): a plain logistic takes a model that refuses one question in ten of any age for
    one with a blurred cutoff. None with fewer than LEAST_FACTS facts, or if all or none are refused, or if
    later facts are not refused more often.
    """
    import numpy as np

    dates, was_refused = np.asarray(years, float), np.asarray(refused, bool)
    if len(dates) < LEAST_FACTS or was_refused.all() or not was_refused.any():
        return None
    dates = dates.clip(earliest)
    rounded = np.round(dates * PLACES_A_YEAR) / PLACES_A_YEAR
    places, where = np.unique(rounded, return_inverse=True)
    yes = np.bincount(where, was_refused)
    no = np.bincount(where, ~was_refused)
    low, high = np.quantile(dates, SEARCHED_SHARES)
    coarse = _profile(np.linspace(low, high, COARSE_MIDDLES), places, yes, no)
    if coarse is None:
        return None
    step = (high - low) / (COARSE_MIDDLES - 1)
    near = coarse.middle + np.linspace(-FINE_STEPS, FINE_STEPS, FINE_MIDDLES) * step
    fine = _profile(near, places, yes, no) or coarse
    best = fine if fine.fit >= coarse.fit else coarse
    likely = best.fit - coarse.fit_by_middle <= LIKELIHOOD_DROP
    inside = coarse.middles[likely] if likely.any() else np.array([best.middle])
    return Curve(
        best.floor,
        best.ceiling,
        best.middle,
        best.scale,
        None if likely[0] else float(min(inside[0], best.middle) - step / 2),
        None if likely[-1] else float(max(inside[-1], best.middle) + step / 2),
    )


@dataclass(frozen=True)
class _Profile:
    """The best curve over a grid, its log-likelihood (fit), and the best log-likelihood of each middle."""

    middles: np.ndarray
    fit_by_middle: np.ndarray
    fit: float
    middle: float
    scale: float
    floor: float
    ceiling: float


def _profile(middles: np.ndarray, places: np.ndarray, yes: np.ndarray, no: np.ndarray) -> _Profile | None:
    """The best fit over a grid of `middles` and scales; None if no curve on it rises.

    places: dates; yes, no: how many facts of each were refused and not. Given middle and scale, floor and
    ceiling are the rates of a two-part mixture with known weights: found by expectation-maximisation, for
    the whole grid at once.
    """
    import numpy as np

    scales = np.geomspace(LEAST_SCALE, LARGEST_SCALE, SCALES)
    # (middles, scales, places); clipped where the exponential would overflow.
    exponent = np.clip((middles[:, None, None] - places) / scales[:, None], -500, 500)
    after = 1 / (1 + np.exp(exponent))
    before = 1 - after
    floor, ceiling = np.full((*after.shape[:2], 1), 0.1), np.full((*after.shape[:2], 1), 0.9)  # to start with
    tiny = 1e-9  # a share of no facts is a division by zero
    for _ in range(ITERATIONS):
        late_yes = yes * ceiling * after / (ceiling * after + floor * before)
        late_no = no * (1 - ceiling) * after / ((1 - ceiling) * after + (1 - floor) * before)
        late = (late_yes + late_no).sum(-1, keepdims=True)
        early = (yes + no).sum() - late
        late_refused = late_yes.sum(-1, keepdims=True)
        ceiling = np.clip(late_refused / np.maximum(late, tiny), LEAST_RATE, 1 - LEAST_RATE)
        floor = np.clip((yes.sum() - late_refused) / np.maximum(early, tiny), LEAST_RATE, 1 - LEAST_RATE)
    share = ceiling * after + floor * before
    fit = (yes * np.log(share) + no * np.log(1 - share)).sum(-1)
    fit = np.where(ceiling[..., 0] > floor[..., 0], fit, -np.inf)
    if not np.isfinite(fit).any():
        return None
    m, s = np.unravel_index(fit.argmax(), fit.shape)
    return _Profile(
        middles=middles,
        fit_by_middle=fit.max(1),
        fit=float(fit[m, s]),
        middle=float(middles[m]),
        scale=float(scales[s]),
        floor=float(floor[m, s, 0]),
        ceiling=float(ceiling[m, s, 0]),
    )
