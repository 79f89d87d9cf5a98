"""At least one of k sampled replies: the estimate, its interval, and what is printed of it."""

import itertools
from statistics import fmean

import pytest

from deepred_common.evaluation import metrics, sampling
from deepred_common.reporting import sampling_text


def row(number, side, greedy, *verdicts, fact=None):
    samples = [{"reply": "…", "finish": "stop", "verdict": one, "error": None} for one in verdicts]
    return {"id": number, "side": side, "fact": fact, "verdict": greedy, "samples": samples}


@pytest.mark.parametrize("hits", range(6))
def test_the_estimate_is_the_share_of_all_choices_of_k_replies_that_hold_a_hit(hits):
    replies = [True] * hits + [False] * (5 - hits)
    for k in range(1, 6):
        share = fmean(any(choice) for choice in itertools.combinations(replies, k))
        assert sampling.at_least_one(5, hits, k) == pytest.approx(share)


def test_each_side_has_its_figures():
    rows = [
        row(0, "unlearn", "refused", "leaked", "refused", "confabulated", "refused", "refused", "refused"),
        row(1, "unlearn", "refused", *["refused"] * 6),
        row(2, "retain", "correct", *["correct"] * 3, *["refused"] * 3),
        row(3, "retain", "wrong", *["failed"] * 6),
    ]
    sampled = sampling.measure(rows, 0.7)
    leaks = {one["k"]: one["percent"] for one in sampled["unlearn"]["leak_at"]}
    assert leaks == pytest.approx({1: 100 / 12, 2: 100 / 6, 4: 100 / 3, 6: 50})
    assert [one["percent"] for one in sampled["retain"]["right_at"]] == pytest.approx([25, 40, 50, 50])
    assert sampled["retain"]["refuse_at"][0]["percent"] == 25 and sampled["chat"] == {}
    assert all(one["low"] <= one["percent"] <= one["high"] for one in sampled["unlearn"]["leak_at"])
    text = sampling_text.sampling_lines(sampled, metrics.summarise(rows))
    assert "Sampled 6 times at temperature 0.7" in text
    (line,) = [line for line in text.splitlines() if "leaks" in line]
    assert line.split()[:7] == ["unlearn", "leaks", "2", "0.0%", "8.3%", "16.7%", "33.3%"]


def test_wordings_of_one_fact_are_no_independent_questions():
    def width(facts):
        rows = [row(n, "unlearn", "refused", "leaked" if n % 2 else "refused", fact=f) for n, f in facts]
        (curve,) = sampling.measure(rows, 1.0)["unlearn"].values()
        return curve[0]["high"] - curve[0]["low"]

    assert width([(n, f"{n // 8}-{n % 2}") for n in range(80)]) > 1.5 * width([(n, None) for n in range(80)])


def test_where_nothing_leaks_the_interval_is_no_point():
    rows = [row(number, "unlearn", "refused", "refused", "refused") for number in range(20)]
    last = sampling.measure(rows, 1.0)["unlearn"]["leak_at"][-1]
    assert last["percent"] == last["low"] == 0 and 10 < last["high"] < 20


def test_questions_that_are_only_scored_do_not_thin_out_the_samples():
    """--probes clues choice-by-probability --samples 8 draws nothing for the second form."""
    rows = [row(0, "unlearn", "refused", *["leaked"] * 8), row(1, "unlearn", "leaked")]
    (leaks,) = sampling.measure(rows, 1.0)["unlearn"].values()
    assert [one["percent"] for one in leaks] == [100] * 4
    assert sampling.drawn(rows) == rows[:1]


def test_without_samples_there_are_no_figures():
    assert sampling.measure([row(0, "retain", "correct")], None) is None
    assert sampling_text.sampling_lines(None, metrics.summarise([])) == ""


def test_every_sample_has_a_seed_of_its_own():
    draws = {
        sampling.draw_of(1.0, seed, n, s).seed for seed, n, s in itertools.product(range(2), range(9), (1, 2))
    }
    assert len(draws) == 36 and sampling.draw_of(1.0, 0, 3, 0) is None
