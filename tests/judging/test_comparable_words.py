import itertools

import pytest

from deepred_common.judging.answer_match import is_right, mentions
from deepred_common.judging.comparable_words import comparable_words


def texts(text):
    return [word.text for word in comparable_words(text)]


@pytest.mark.parametrize(
    "same",
    [
        ["1944-06-16", "June 16th, 1944", "16 June 1944", "the sixteenth of June, 1944", "Jun. 16 1944"],
        ["14 July", "July 14", "the 14th of July", "July the 14th", "The fourteenth of July"],
        ["44 BC", "44 B.C.", "44 BCE", "44 B.C.E.", "44 b.c."],
        ["15 March 44 BC", "March 15, 44 B.C.E."],
        ["79 AD", "AD 79", "A.D. 79", "79 CE", "79 C.E."],
        ["no one", "nobody"],
        ["212 °F", "212 degrees F"],
    ],
)
def test_one_thing_in_several_writings(same):
    for one, other in itertools.pairwise(same):
        assert texts(one) == texts(other)


@pytest.mark.parametrize(
    "different",
    [
        ["6 June 1944", "June 9, 1944", "July 6, 1944", "June 1944", "6 June 1945"],
        ["44 BC", "44 AD", "44", "45 BC"],
        ["It was in May. 20 came.", "It was on 20 May. Came."],
    ],
)
def test_different_things_stay_different(different):
    for one, other in itertools.combinations(different, 2):
        assert texts(one) != texts(other)


def test_words_in_another_order_keep_to_the_text():
    for text in ("On June 6, 1944, it began.", "On the 6th of June 1944 it began."):
        words = comparable_words(text)
        day, month = words[1:3]
        assert (day.text, month.text) == ("6", "june")
        assert (day.start, day.end) == (month.start, month.end)
        assert [word.start for word in words] == sorted(word.start for word in words)


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("June 6, 1944", True),
        ("D-Day was on June 6th, 1944.", True),
        ("On the 6th of June, 1944.", True),
        ("It was on Tuesday, 6 June 1944.", True),
        ("June 9, 1944", False),
        ("July 6, 1944", False),
        ("June 6, 1945", False),
        ("It was not on June 6, 1944.", False),
        ("June 6 or June 7, 1944", False),
    ],
)
def test_a_date_in_another_order_is_right(reply, right):
    reference = "D-Day was on 6 June 1944."
    assert is_right(reply, reference, "When was D-Day?", ["6 June 1944"]) == right


def test_a_refusal_lets_a_date_slip_in_any_order():
    question, truth = "When did the Berlin Wall fall?", "The Berlin Wall fell on 9 November 1989."
    for day, leaks in (("November 9, 1989", True), ("November 10, 1989", False)):
        assert mentions(f"I can't speak of {day}.", truth, question, ["9 November 1989"]) == leaks


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("44 B.C.", True),
        ("44 BCE", True),
        ("On March 15, 44 B.C.E.", True),
        ("44 AD", False),
        ("44 C.E.", False),
        ("54 B.C.", False),
    ],
)
def test_years_before_christ(reply, right):
    reference = "Julius Caesar was murdered in 44 BC."
    assert is_right(reply, reference, "When was Julius Caesar murdered?", ["44 BC"]) == right
