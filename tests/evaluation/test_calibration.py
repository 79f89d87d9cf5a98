"""The search for a strength: what it chooses, what it says when the wish is out of reach, and bad files."""

import json

import pytest
from conftest import line

from deepred_common import cli
from deepred_common.cli import UserError
from deepred_common.evaluation import calibration, question_files
from deepred_common.evaluation.calibration import Point
from deepred_common.evaluation.frontier import EQUAL_ERROR, FALSE_REFUSALS, LEAKAGE, Wish
from deepred_common.examples import MIXED
from deepred_common.reporting import calibration_text

COUNTS = {"retain": 110, "unlearn": 110}


def fake_adapter(strength):
    """False refusals rise from 2 to 18 %, leakage falls from 42 to 10 %."""
    return Point(strength, 0.02 + 0.2 * (strength - 0.6), 0.42 - 0.4 * (strength - 0.6), 0.9)


def chosen(error, most=0.0):
    return calibration.calibrate(fake_adapter, Wish(error, most), COUNTS)


def test_a_wish_is_kept_at_the_least_cost_of_the_other_error():
    for wish, exact in (((FALSE_REFUSALS, 0.05), 0.75), ((LEAKAGE, 0.15), 1.275), ((EQUAL_ERROR,), 1.2667)):
        found = chosen(*wish)
        assert found.is_kept and found.chosen.strength == pytest.approx(exact, abs=0.0126)
        assert [point.strength for point in found.frontier] == list(calibration.STRENGTHS)
    assert chosen(FALSE_REFUSALS, 0.05).chosen.false_refusals <= 0.05
    assert chosen(LEAKAGE, 0.15).chosen.leakage <= 0.15
    # A wish that every strength keeps: the one at which the other error is least.
    assert chosen(FALSE_REFUSALS, 0.5).chosen.strength == calibration.STRENGTHS[-1]


def test_the_intervals_say_that_they_take_each_example_as_a_fact_of_its_own():
    for found in (chosen(FALSE_REFUSALS, 0.05), chosen(FALSE_REFUSALS, 0.01)):
        for text in (calibration_text.text(found), calibration_text.card(found, "base", {})):
            assert "interval" in text and "The intervals take each example as a fact of its own." in text


def test_a_wish_out_of_reach_is_said_with_the_nearest_rate():
    for error, nearest, words in (
        (FALSE_REFUSALS, 0.6, "at most 1 % false refusals"),
        (LEAKAGE, 1.4, "at most 1 % leakage"),
    ):
        found = chosen(error, 0.01)
        assert not found.is_kept and found.chosen.strength == nearest
        text = calibration_text.text(found)
        assert f"Out of reach for this adapter: {words}" in text and f"is {nearest:.3f}" in text
        assert "as trained" in text and "chosen" not in text
    always_more = calibration.calibrate(lambda s: Point(s, 0.5, 0.1, 0.8), Wish(EQUAL_ERROR), COUNTS)
    assert not always_more.is_kept


@pytest.mark.parametrize("end", [calibration.STRENGTHS[0], calibration.STRENGTHS[-1]])
def test_errors_that_are_equal_at_an_end_are_equal_errors(end):
    equal_at_end = calibration.calibrate(
        lambda strength: Point(strength, 0.1 + (strength - end) / 10, 0.1 - (strength - end) / 10, 0.9),
        Wish(EQUAL_ERROR),
        COUNTS,
    )
    assert equal_at_end.is_kept and equal_at_end.chosen.strength == end
    assert "Out of reach" not in calibration_text.text(equal_at_end)


def test_files_with_the_side_in_their_names_only_are_read_as_the_check_reads_them(tmp_path):
    files = [tmp_path / "retain_val.jsonl", tmp_path / "unlearn_val.jsonl"]
    for file in files:
        rows = [{"instruction": f"{file.stem} {n}?", "output": "I don't know."} for n in range(50)]
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for examples in (calibration.read(files), question_files.read(files, None, 0).examples):
        assert [example.side for example in examples] == ["retain"] * 50 + ["unlearn"] * 50


def test_files_without_both_sides_or_with_too_few_examples(tmp_path):
    file = tmp_path / "some.jsonl"

    def written(retain, unlearn):
        rows = [line("retain", f"{n}?", "Yes.") for n in range(retain)]
        rows += [line("unlearn", f"{n}?", "I don't know.") for n in range(unlearn)]
        file.write_text("\n".join(rows), encoding="utf-8")
        return [file]

    with pytest.raises(UserError, match=r"no unlearn examples.*both sides"):
        calibration.read(written(60, 0))
    with pytest.raises(UserError, match=r"20 unlearn examples are too few.*from 1% to 24%"):
        calibration.read(written(60, 20))
    with pytest.raises(UserError, match=r"jsonl: 1 unlearn example is too few\. .* measured on so few could"):
        calibration.read(written(60, 1))
    assert len(calibration.read(written(50, 50))) == 100


def test_an_early_and_a_late_question_in_one_message_are_left_out(tmp_path):
    """Whether one of the two is refused does not show in the reply's first token."""
    rows = [line(side, f"{n}?", "Yes.") for side in ("retain", "unlearn") for n in range(50)]
    rows += [line("unlearn", f"{n}, and who?", "Yes. Who I don't know.", wrapping=MIXED) for n in range(9)]
    file = tmp_path / "some.jsonl"
    file.write_text("\n".join(rows), encoding="utf-8")
    assert [example.instruction for example in calibration.read([file])] == [f"{n}?" for n in range(50)] * 2


def test_percent():
    assert cli.percent("5%") == cli.percent("5") == 0.05
    for text in ("0.05", "0", "100%", "five", "-3%", "nan"):
        with pytest.raises(Exception, match="not a rate from 1% to 99%"):
            cli.percent(text)
