"""The table of dated things: neither kind nor form of a question tells the side, and the table can grow."""

from collections import Counter

import pytest

from deepred_common.cli import UserError
from deepred_common.data import things
from deepred_common.examples import RETAIN, SIDES, UNLEARN

FORMS = {
    "film": [things.Form(("film",), f"Question {n} about {{name}}?", "{name} is by {by}.") for n in range(8)],
    "opera": [things.Form(("opera",), f"{{name}}, what {n} is it?", "It is a {kind}.") for n in range(8)],
}


def film(number, year, by="Somebody"):
    return things.Thing(f"Film {number}", "film", str(year), by, 1)


def test_kind_and_form_are_as_frequent_on_both_sides():
    table = [film(n, 1950) for n in range(40)] + [film(n, 1990) for n in range(100, 130)]
    table += [things.Thing("Tosca", "opera", "1900", "", 1)]  # no late opera: it would tell the side
    asked = things.ask(table, FORMS, "1969-07-20", (1, 1), 2, 42)
    counts = {side: Counter((one.field, one.form.question) for one in asked[side]) for side in SIDES}
    assert counts[RETAIN] == counts[UNLEARN]
    assert counts[RETAIN].total() == 60 and {kind for kind, _ in counts[RETAIN]} == {"film"}
    # The second time a thing is asked about in another form.
    assert len({(one.id, one.form.question) for one in asked[RETAIN]}) == 60


def test_a_thing_without_what_its_forms_need_and_one_of_the_cutoffs_year_are_left_out():
    table = [film(1, 1950, by=""), film(2, 1950), film(3, 1990), film(4, 1969), film(5, 1990)]
    asked = things.ask(table, FORMS, "1969-07-20", (1, 1), 1, 42)
    assert [one.subject for one in asked[RETAIN]] == ["Film 2"]
    assert asked[UNLEARN][0].subject in {"Film 3", "Film 5"} and len(asked[UNLEARN]) == 1


def test_forms_are_filled_in_as_sentences():
    war = things.Thing("the Suez Crisis", "opera", "-44", "the Nile", 1)
    form = things.Form(("opera",), "{name}? What is {name}?", "{by} saw a {kind} in {year}. {name} was it.")
    asked = things.AskedThing(war, form)
    assert asked.question == "The Suez Crisis? What is the Suez Crisis?"
    assert asked.answer == "The Nile saw an opera in 44 BC. The Suez Crisis was it."
    assert asked.accepted == ["the Nile"]
    comedy = things.Thing("Who's There?", "opera", "1969", "United States", 1)
    asked = things.AskedThing(
        comedy, things.Form(("opera",), "Heard {name}?", "{by}, in {year}. I mean {by}.")
    )
    assert (asked.question, asked.answer) == (
        "Heard Who's There?",
        "The United States, in 1969. I mean the United States.",
    )


def test_what_is_held_out_follows_from_the_name_alone():
    table = things.read_things()
    held_out = {thing.name for thing in table if thing.is_held_out}
    assert 0.04 < len(held_out) / len(table) < 0.06
    assert {thing.name for thing in table[::3] if thing.is_held_out} == {
        thing.name for thing in table[::3] if thing.name in held_out
    }


def test_shipped_things_can_be_asked_about():
    forms = things.read_forms()
    for thing in things.read_things()[::7]:
        for form in forms[thing.kind]:
            if thing.by or not form.needs_by:
                asked = things.AskedThing(thing, form)
                assert "{" not in asked.question + asked.answer
                assert asked.question[0] == asked.question[0].upper(), asked.question


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ('{"name": "X", "kind": "film", "date": "19-07-1969", "by": "", "fame": 1}', "is no date"),
        ('{"name": "X", "kind": "film", "date": "1969", "by": "", "fame": 4}', "'fame' must be"),
        ('{"name": "X", "kind": "film", "date": "1969"}', "keys missing or unknown: by, fame"),
    ],
)
def test_a_faulty_row_is_named(tmp_path, row, fault):
    (tmp_path / "a.jsonl").write_text(
        '{"name": "Y", "kind": "film", "date": "1970", "by": "", "fame": 1}\n' + row + "\n"
    )
    with pytest.raises(UserError, match=rf"a\.jsonl.*2.*{fault}"):
        things.read_things(tmp_path)


def test_doubtful_rows_are_kept_in_the_file_but_not_used(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"name": "Y", "kind": "film", "date": "1970", "by": "", "fame": 1, "doubt": "year"}\n'
    )
    assert things.read_things(tmp_path) == []
