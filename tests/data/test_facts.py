"""The bank of dated facts."""

import json
import re
from collections import Counter, defaultdict

import pytest

from deepred_common.cli import UserError
from deepred_common.data import facts, questions
from deepred_common.dates import parse
from deepred_common.examples import RETAIN, UNLEARN
from deepred_common.judging import answer_match, refusal


@pytest.fixture(scope="module")
def bank():
    return facts.read_bank()


def test_the_bank_is_as_large_and_spread_as_promised(bank):
    years = Counter(parse(fact.date).year for fact in bank if fact.date)
    timeless = sum(fact.date is None for fact in bank)
    pairs = defaultdict(list)
    for fact in bank:
        if fact.pair:
            pairs[fact.pair].append(fact.date)
    assert len(bank) >= 1500 and timeless >= 150 and min(years[year] for year in range(1960, 1981)) >= 15
    assert len(pairs) >= 100 and all(len(set(dates)) == 2 and None not in dates for dates in pairs.values())
    before = timeless + sum(count for year, count in years.items() if year < 1950)
    after = sum(count for year, count in years.items() if year > 1985)
    assert before > 0.3 * len(bank) and after > 0.25 * len(bank)


def test_each_answer_is_graded_as_right_and_is_no_refusal(bank):
    for fact in bank:
        assert answer_match.is_right(fact.answer, fact.answer, fact.question, fact.accepted), fact
        assert fact.short.casefold() not in {word.casefold() for word in fact.alternatives}, fact
        assert not refusal.is_refusal(fact.answer, fact.question), fact


def test_the_wrong_alternatives_of_the_bank_are_graded_as_wrong(bank):
    alternatives = [(fact, wrong) for fact in bank for wrong in fact.alternatives]
    graded_right = [
        (fact.id, wrong)
        for fact, wrong in alternatives
        if answer_match.is_right(wrong, fact.answer, fact.question, fact.accepted)
    ]
    assert len(graded_right) <= len(alternatives) / 2000, (
        graded_right
    )  # an alias such as "Phillip" also stands in Philip Gidley King


def begins_with_vowel(text):
    return text[0].lower() in "aeiou"


def begins_with_article(text):
    return re.match(r"(an?|the) ", text) is not None


def test_grammar_does_not_tell_which_answer_fits_the_gap(bank):
    """An article before the gap fits all four answers or none: "an ____" is not a Bentley. Aliases fill no
    gap, they only recognise replies."""
    for fact in [*bank, *(one for kind in facts.read_misleading().values() for one in kind)]:
        before, _, after = fact.cloze.partition(facts.GAP)
        answers = [fact.short, *fact.alternatives]
        for text in answers:
            filled = before + text + after
            assert not re.search(r"\b(an?|the) (an?|the)\b", filled, re.IGNORECASE), filled
        if re.search(r"\ban? $", before):
            assert len({begins_with_vowel(text) for text in answers}) == 1, (fact.cloze, answers)
        if re.search(r"\b(an?|the) [a-z][\w-]* $", before):  # the article of a "masked ____"
            assert len({begins_with_article(text) for text in answers}) == 1, (fact.cloze, answers)


def test_no_fact_is_in_the_bank_under_two_subjects(bank):
    """Else one of the two could be trained on and the other held out."""
    first_facts = {}
    for fact in bank:
        for text in {fact.question, *fact.phrasings}:
            first = first_facts.setdefault(questions.question_hashes(text).in_any_order, fact)
            assert first.subject.casefold() == fact.subject.casefold(), (first.id, fact.id, text)


def test_a_subject_has_one_spelling(bank):
    """Else its facts are split: "Iran-Iraq War", "the Minotaur", "kangaroos"."""
    spelt = defaultdict(set)
    for fact in bank:
        words = re.sub(r"[’'.!]|^the ", "", re.sub(r"[-–]", " ", fact.subject.casefold())).split()
        spelt[" ".join(word.rstrip("s") for word in words)].add(fact.subject.casefold())
    assert {key for key, spellings in spelt.items() if len(spellings) > 1} == {
        "great train robbery"
    }  # the film of 1903 and the robbery of 1963


@pytest.mark.parametrize(
    "date, cutoff, side",
    [
        ("1969-07-19", "1969-07-20", RETAIN),
        ("1969-07-20", "1969-07-20", UNLEARN),
        ("1969-07", "1969-07-20", None),
        ("1969", "1969-07-20", None),
        ("1969-06", "1969-07-20", RETAIN),
        ("1968", "1969-07-20", RETAIN),
        ("1970", "1969-07-20", UNLEARN),
        ("-44", "1969-07-20", RETAIN),
        (None, "0500-01-01", RETAIN),
        ("1969", "1969-01-01", UNLEARN),
    ],
)
def test_on_which_side_a_date_lies(bank, date, cutoff, side):
    fact = facts.Fact(**{**vars(bank[0]), "date": date})
    assert facts.side(fact, cutoff) == side


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"date": "1968-13"}, "'1968-13' is no date"),
        ({"date": 1968}, "1968 is no date"),
        ({"date": "1967-02-29"}, "is no date"),
        ({"date": "0"}, "is no date"),
        ({"date": "1968-4-2"}, "is no date"),
        ({"date": "0079"}, "is no date"),
        ({"phrasings": "What?"}, "'phrasings' must be a list"),
        ({"short": None}, "'short' must be a text"),
        ({"cloze": "No gap."}, "has no ____"),
        ({"more": 1}, "keys missing or unknown: more"),
    ],
)
def test_a_faulty_fact_is_reported_with_its_line(bank, tmp_path, wrong, message):
    (tmp_path / "own.jsonl").write_text(
        json.dumps(vars(bank[0])) + "\n" + json.dumps({**vars(bank[1]), **wrong}) + "\n"
    )
    with pytest.raises(UserError, match=f"own.jsonl line 2: .*{message}"):
        facts.read_bank(tmp_path)
