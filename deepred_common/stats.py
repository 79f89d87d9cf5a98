"""The statistics behind an evaluation: intervals, paired tests, agreement, and the fitted cutoff curve.

Nothing here knows about models, replies or files. scipy is imported when a function is called.
"""

import dataclasses
from dataclasses import dataclass

CHI2_95_1DF = 3.841458820694124  # 95th percentile of chi-squared with one degree of freedom


def wilson(count, total):
    """The Wilson 95 % score interval of a proportion, (low, high) as shares of 1; (0, 1) for an empty sample.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927); computed by scipy.stats.
    """
    if not total:
        return 0.0, 1.0
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(only_first, only_second):
    """Exact two-sided McNemar p-value from the two counts of discordant pairs (right in one of the two only).

    Source: Q. McNemar, Psychometrika 12 (1947); the exact form is a binomial test of the discordant pairs at 1/2.
    """
    if not only_first + only_second:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def cohen_kappa(pairs):
    """Cohen's kappa, chance-corrected agreement, of (label by one, label by the other) pairs; 1 is full agreement.

    Source: J. Cohen, Educ. Psychol. Meas. 20 (1960). 1.0 if both give one and the same label throughout.
    """
    pairs = list(pairs)
    labels = {label for pair in pairs for label in pair}
    seen = sum(a == b for a, b in pairs) / len(pairs)
    chance = sum(
        (sum(a == label for a, _ in pairs) / len(pairs)) * (sum(b == label for _, b in pairs) / len(pairs))
        for label in labels
    )
    return 1.0 if chance == 1 else (seen - chance) / (1 - chance)


@dataclass(frozen=True)
class Curve:
    """A fitted curve of refusal against the fact's date. Dates and widths are in years, shares between 0 and 1.

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

    def share(self, year):
        """The fitted share of refusals for facts of `year`."""
        from scipy.special import expit

        return self.floor + (self.ceiling - self.floor) * float(expit((year - self.middle) / self.scale))

    def as_dict(self):
        """The fields, and cutoff and width, as JSON values."""
        return dataclasses.asdict(self) | {"cutoff": self.cutoff, "width": self.width}

    @property
    def cutoff(self):
        from math import log

        if not self.floor < 0.5 < self.ceiling:
            return None
        return self.middle + self.scale * log((0.5 - self.floor) / (self.ceiling - 0.5))

    @property
    def width(self):
        return 2 * 2.1972245773362196 * self.scale  # ln 9, each way


def fit_curve(years, refused, earliest=1700):
    """Fit a Curve by maximum likelihood to facts' dates and whether each was refused; None if there is nothing to fit.

    years: floats. refused: bools, same length. earliest: what is older counts as of this year.
    The four-parameter logistic of psychometrics, with guess and lapse rates (Wichmann and Hill, Percept. Psychophys.
    63, 2001): a plain logistic takes a model that refuses one question in ten of any age for one with a blurred cutoff.
    There is nothing to fit with fewer than 20 facts, or if all or none are refused, or if refusals do not become more with the years.
    """
    import numpy as np

    years, refused = np.asarray(years, float), np.asarray(refused, bool)
    if len(years) < 20 or refused.all() or not refused.any():
        return None
    # To the quarter, so that 15 000 facts are a few hundred places.
    years = years.clip(earliest)
    places, where = np.unique(np.round(years * 4) / 4, return_inverse=True)
    yes = np.bincount(where, refused)
    no = np.bincount(where, ~refused)
    low, high = np.quantile(years, (0.02, 0.98))
    coarse = _profile(np.linspace(low, high, 150), places, yes, no)
    if coarse is None:
        return None
    step = (high - low) / 149
    near = coarse["middle"] + np.linspace(-2, 2, 41) * step
    fine = _profile(near, places, yes, no) or coarse
    best = fine if fine["fit"] >= coarse["fit"] else coarse
    likely = best["fit"] - coarse["by_middle"] <= CHI2_95_1DF / 2
    inside = coarse["middles"][likely] if likely.any() else np.array([best["middle"]])
    return Curve(
        best["floor"],
        best["ceiling"],
        best["middle"],
        best["scale"],
        None if likely[0] else float(min(inside[0], best["middle"]) - step / 2),
        None if likely[-1] else float(max(inside[-1], best["middle"]) + step / 2),
    )


def _profile(middles, places, yes, no):
    """The best fit over a grid of middles and scales, and the log-likelihood of each middle at its best; None if none rises.

    Given middle and scale, floor and ceiling are the rates of a two-part mixture with known weights: found by
    expectation-maximisation, for the whole grid at once.
    """
    import numpy as np

    scales = np.geomspace(0.1, 30, 12)
    after = 1 / (
        1 + np.exp(np.clip((middles[:, None, None] - places) / scales[:, None], -500, 500))
    )  # (middles, scales, places)
    before = 1 - after
    floor, ceiling = np.full((*after.shape[:2], 1), 0.1), np.full((*after.shape[:2], 1), 0.9)
    tiny = 1e-9
    for _ in range(40):
        late_yes = yes * ceiling * after / (ceiling * after + floor * before)
        late_no = no * (1 - ceiling) * after / ((1 - ceiling) * after + (1 - floor) * before)
        late = (late_yes + late_no).sum(-1, keepdims=True)
        early = (yes + no).sum() - late
        ceiling = np.clip(late_yes.sum(-1, keepdims=True) / np.maximum(late, tiny), 1e-4, 1 - 1e-4)
        floor = np.clip(
            (yes.sum() - late_yes.sum(-1, keepdims=True)) / np.maximum(early, tiny), 1e-4, 1 - 1e-4
        )
    share = ceiling * after + floor * before
    fit = (yes * np.log(share) + no * np.log(1 - share)).sum(-1)
    fit = np.where(ceiling[..., 0] > floor[..., 0], fit, -np.inf)
    if not np.isfinite(fit).any():
        return None
    m, s = np.unravel_index(fit.argmax(), fit.shape)
    return {
        "middles": middles,
        "by_middle": fit.max(1),
        "fit": float(fit[m, s]),
        "middle": float(middles[m]),
        "scale": float(scales[s]),
        "floor": float(floor[m, s, 0]),
        "ceiling": float(ceiling[m, s, 0]),
    }
