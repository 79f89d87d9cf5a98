"""One grammar of a date for the bank, the check of users' data and the evaluation's breakdowns."""

import pytest

from deepred_common.dates import Date, parse, year_of


@pytest.mark.parametrize(
    "text, date",
    [
        ("1969-07-20", Date(1969, 7, 20)),
        ("1969-07", Date(1969, 7)),
        ("1969", Date(1969)),
        (1969, Date(1969)),
        ("476", Date(476)),
        ("0079", Date(79)),
        ("-44-03-15", Date(-44, 3, 15)),
        ("1969-7-2", Date(1969, 7, 2)),
        (" 1969-07-20 ", Date(1969, 7, 20)),
        ("1969-07-20T02:56:15Z", Date(1969, 7, 20)),
        ("1969-07-20 02:56", Date(1969, 7, 20)),
        ("1968-02-29", Date(1968, 2, 29)),
        ("-45-02-29", Date(-45, 2, 29)),  # nobody knows the calendar of years before Christ so exactly
        ("1967-02-29", None),
        ("1969-13", None),
        ("1969-00-20", None),
        ("1969-07-32", None),
        ("0", None),
        ("1970s", None),
        ("15th century", None),
        ("20 July 1969", None),
        ("1969-07T02:56", None),
        ("19690", None),
        (1969.5, None),
        ("", None),
        (None, None),
    ],
)
def test_what_is_a_date(text, date):
    assert parse(text) == date
    # What the grammar refuses, no reader of dates takes; what it takes, all of them do.
    assert (year_of(text) is None) == (date is None)


@pytest.mark.parametrize(
    "text, first_day, last_day",
    [
        ("1969-07-20T02:56", (1969, 7, 20), (1969, 7, 20)),
        ("1969-2", (1969, 2, 1), (1969, 2, 28)),
        ("1969", (1969, 1, 1), (1969, 12, 31)),
        ("-44", (-44, 1, 1), (-44, 12, 31)),
    ],
)
def test_the_days_that_a_date_may_mean(text, first_day, last_day):
    assert (parse(text).first_day, parse(text).last_day) == (first_day, last_day)


def test_a_date_is_written_in_one_form():
    assert [str(parse(text)) for text in ("1969-7-2 02:56", "0079", "-44-3")] == [
        "1969-07-02",
        "79",
        "-44-03",
    ]


def test_dates_as_years():
    years = [year_of(text) for text in ("1969-07-20", "1969-07-20T02:56", "1912", "1912-07", "-44-03-15")]
    assert years == pytest.approx([1969.55, 1969.55, 1912.5, 1912.54, -43.8], abs=0.01)
