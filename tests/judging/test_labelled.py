"""The figures by which verdicts are compared with labels."""

import pytest

from deepred_common.judging.labelled import kappa, precision_recall, read_labelled
from deepred_common.judging.refusal import ANSWERED, BROKEN, REFUSED


def test_precision_recall_and_f1_with_intervals():
    pairs = [("a", "a")] * 30 + [("a", "b")] * 10 + [("b", "a")] * 5 + [("b", "b")] * 55
    score = precision_recall(pairs, "a")
    assert (score["hits"], score["false"], score["missed"]) == (30, 5, 10)
    assert score["precision"][0] == pytest.approx(30 / 35) and score["recall"][0] == pytest.approx(30 / 40)
    value, low, high = score["f1"]
    assert value == pytest.approx(0.8) and 0.65 < low < 0.75 and 0.85 < high < 0.92
    assert precision_recall(pairs, "a") == score  # the bootstrap is seeded


def test_kappa_is_chance_corrected_and_has_an_interval():
    value, low, high = kappa([(True, True)] * 40 + [(False, False)] * 40 + [(True, False)] * 20)
    assert value == pytest.approx(0.6154, abs=1e-3) and 0.4 < low < value < high < 0.8
    assert kappa([(True, True)] * 5 + [(False, False)] * 5) == (1.0, 1.0, 1.0)


def test_the_labelled_sets_hold_what_their_readers_need():
    for row in read_labelled("refusals"):
        assert row["label"] in (REFUSED, ANSWERED, BROKEN) and row["half"] in ("build", "held_back"), row
        assert row["question"] and isinstance(row["reply"], str) and row["kind"] and row["source"], row
    for row in read_labelled("grades"):
        assert isinstance(row["right"], bool) and row["reference"] and row["half"], row
    halves = {
        half: {row["question"] for row in read_labelled("refusals", half) if row["kind"] == "real"}
        for half in ("build", "held_back")
    }
    assert halves["build"] and halves["held_back"]
