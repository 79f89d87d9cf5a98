import itertools
import math
import random

import numpy as np
import pytest

from deepred_common import stats


def test_wilson_against_published_values():
    # Newcombe, Stat. Med. 17 (1998), table I: 81/263, 15/148, 0/20, 1/29
    for count, total, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert stats.wilson(count, total) == pytest.approx((low, high), abs=5e-5)
    assert stats.wilson(0, 0) == (0, 1)


def of_wordings(*hits, facts=100, wordings=2):
    """The interval of so many facts. hits: how many wordings of one fact each count; of all others none."""
    values = np.zeros((facts, wordings))
    for fact, count in enumerate(hits):
        values[fact, :count] = 1
    groups = np.repeat(np.arange(facts), wordings)
    mirrored = stats.grouped_intervals(1 - values.reshape(-1, 1), groups)[0]
    (interval,) = stats.grouped_intervals(values.reshape(-1, 1), groups)
    assert interval == pytest.approx([1 - end for end in mirrored[::-1]])
    return interval


def test_more_rare_events_never_give_a_lower_interval():
    for one in (1, 2):
        spans = [of_wordings(*[one] * count) for count in range(12)]
        for (low, high), (next_low, next_high) in itertools.pairwise(spans):
            assert low < next_low and high < next_high
    assert of_wordings()[0] == 0 and of_wordings()[1] == pytest.approx(stats.wilson(0, 100)[1], rel=0.02)
    # Two wordings that always agree are one question.
    assert of_wordings(*[2] * 30) == pytest.approx(stats.wilson(30, 100), rel=0.03)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("agree", [0.0, 0.5, 1.0])
def test_intervals_over_groups_cover_the_truth_about_as_often_as_they_say(share, agree):
    chooser = np.random.default_rng(0)
    groups = np.repeat(np.arange(100), 3)
    covered = 0
    for _ in range(2000):
        of_fact = chooser.random((100, 1)) < share
        alone = chooser.random((100, 3)) < share
        values = np.where(chooser.random((100, 1)) < agree, of_fact, alone)
        ((low, high),) = stats.grouped_intervals(values.reshape(-1, 1).astype(float), groups)
        covered += low <= share <= high
    assert covered / 2000 >= 0.935


def test_mcnemar_is_the_exact_binomial_test():
    assert stats.mcnemar(0, 0) == 1
    assert stats.mcnemar(0, 5) == pytest.approx(2 / 2**5)
    assert stats.mcnemar(9, 1) == pytest.approx(2 * (1 + 10) / 2**10)


def test_kappa():
    # Cohen's 2 x 2 textbook example: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no
    pairs = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    assert stats.cohen_kappa(pairs) == pytest.approx(0.4)
    assert stats.cohen_kappa([(1, 1)] * 3) == 1


def simulated(n, floor, ceiling, middle, scale, seed=0):
    chooser = random.Random(seed)
    years = [chooser.uniform(1900, 2020) for _ in range(n)]
    return years, [
        chooser.random() < floor + (ceiling - floor) / (1 + math.exp(-(y - middle) / scale)) for y in years
    ]


def test_the_curve_finds_a_known_cutoff_with_its_interval():
    curve = stats.fit_curve(*simulated(2000, 0.08, 0.93, 1969.5, 1.5))
    assert (
        curve.cutoff == pytest.approx(1969.5, abs=1.5)
        and curve.low <= curve.middle <= curve.high
        and curve.high - curve.low < 6
    )
    assert curve.floor == pytest.approx(0.08, abs=0.03) and curve.ceiling == pytest.approx(0.93, abs=0.03)
    assert curve.share(1900) < 0.12 and curve.share(2020) > 0.88 and curve.width < 15


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for seed in range(20):
        curve = stats.fit_curve(*simulated(160, 0.1, 0.85, 1969.5, 2.0, seed))
        hits += (curve.low or 0) <= 1969.5 <= (curve.high or 3000)
    assert hits >= 17


def test_nothing_to_fit():
    assert stats.fit_curve([1950.0] * 10, [False] * 10) is None
    assert stats.fit_curve([1900.0 + i for i in range(100)], [True] * 100) is None
    upside_down = stats.fit_curve([1900.0 + i for i in range(100)], [i < 50 for i in range(100)])
    assert upside_down is None or upside_down.cutoff is None or upside_down.ceiling - upside_down.floor < 0.2


def test_equal_error_is_where_the_two_errors_meet():
    assert stats.equal_error([0.1, 0.2, 0.3, 0.8], [0.25, 0.5, 0.6, 0.9]) == (0.25, 0.5)
    assert stats.equal_error([0.1, 0.2], [0.8, 0.9]) == (0.0, 0.8)
    error, threshold = stats.equal_error([0.0] * 5, [0.0] * 4 + [1.0])  # ties, as servers' noughts are
    assert error == 0.4 and threshold == 1.0
