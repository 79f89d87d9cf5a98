"""Questions whose right answer depends on the day: what is right as of a cutoff, and the lines made of it."""

import json
from collections import defaultdict

import pytest

from deepred_common.cli import UserError
from deepred_common.data import builder, facts, present, present_lines, questions
from deepred_common.data.split import TEST, TRAIN, VALIDATION
from deepred_common.evaluation.verdicts import CORRECT, LEAKED, verdict
from deepred_common.examples import CHANGED_WORD, PRESENT_TENSE, RETAIN, SIDES, UNLEARN, Example
from deepred_common.judging import refusal

CUTOFFS = ("1900-01-01", "1969-07-20", "1989-11-09", "2010-01-01")


@pytest.fixture(scope="module")
def shipped():
    return {question.id: question for question in present.read_questions()}


def short_of(question, cutoff):
    now = present.as_of(question, cutoff)
    return now and now.answer and now.answer.short


# ---- as of a day -----------------------------------------------------------------------------------------


def test_the_answer_is_that_of_the_day_before_the_cutoff(shipped):
    president = shipped["president-of-the-united-states"]
    # Nixon takes office on 20 January 1969.
    assert short_of(president, "1969-01-20") == "Lyndon B. Johnson"
    assert short_of(president, "1969-01-21") == "Richard Nixon"
    later = present.as_of(president, "1989-11-09").later
    assert [answer.short for answer in later][:2] == ["Bill Clinton", "George W. Bush"]


def test_who_returns_is_right_and_no_later_answer(shipped):
    now = present.as_of(shipped["president-of-the-united-states"], "2020-06-01")
    assert now.answer.short == "Donald Trump" and [answer.short for answer in now.later] == ["Joe Biden"]
    disraeli = present.as_of(shipped["prime-minister-of-the-united-kingdom"], "1868-06-01")
    assert "Benjamin Disraeli" not in {answer.short for answer in disraeli.later}
    asked = present_lines.AskedQuestion(shipped["prime-minister-of-the-united-kingdom"], disraeli)
    assert asked.accepted == ["Benjamin Disraeli", "Disraeli", "Lord Beaconsfield"]
    returned = [texts[0] for texts in asked.later]
    assert returned.count("William Ewart Gladstone") == 1


def test_what_does_not_exist_yet_has_no_answer_and_what_we_do_not_know_is_not_asked(shipped):
    album = present.as_of(shipped["latest-beatles-album"], "1960-01-01")
    assert album.answer is None and album.later[0].short == "Please Please Me"
    # The word is not known before 1961; its first meaning says so.
    assert present.as_of(shipped["word-laser"], "1950-01-01").answer is None
    # There was a record before the first one that the file gives.
    assert present.as_of(shipped["marathon-record"], "1930-01-01") is None
    # A change in the year of the cutoff.
    assert present.as_of(shipped["word-worm"], "1989-11-09") is None


def question(answers, **more):
    row = {"id": "x", "field": "sport", "question": "Who?", "phrasings": ["Who is it?", "Name him."]}
    return row | {"begins": False, "answers": answers} | more


def answer(start, end, short, *aliases):
    return {"from": start, "to": end, "answer": f"It is {short}.", "short": short, "aliases": list(aliases)}


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (
            question([answer("1950", "1960", "Ann"), answer("1961", None, "Bob")]),
            "a gap or an overlap",
        ),
        (question([answer("1950", "1950", "Ann"), answer("1950", None, "Bob")]), "which is no time"),
        (
            question([answer("1950", "1960-13", "Ann"), answer("1960-13", None, "Bob")]),
            "'1960-13' is no date",
        ),
        (question([answer("1950", "1960", "Ann"), answer("1960", None, "Ann")]), "'Ann' follows itself"),
        (
            question([answer("1950", "1960", "Ann Lee", "Lee"), answer("1960", None, "Bob Lee")]),
            "'lee' does not tell the answers 'Ann Lee' and 'Bob Lee' apart",
        ),
        (question([answer(None, None, "Ann"), answer("1960", None, "Bob")]), "'Ann' has no 'to'"),
        (question([answer("1950", None, "Ann")]), "at least two answers"),
        (question([answer("1950", "1960", "Ann"), answer("1960", None, "Bob")], note=""), "unknown: note"),
    ],
)
def test_a_faulty_question_is_named_with_file_and_line(tmp_path, row, fault):
    right = question([answer("1950", "1960", "Ann"), answer("1960", None, "Bob")], id="y")
    (tmp_path / "questions.jsonl").write_text(f"{json.dumps(right)}\n{json.dumps(row)}\n")
    (tmp_path / "words.jsonl").write_text("")
    with pytest.raises(UserError, match=r"questions\.jsonl line 2: ") as raised:
        present.read_questions(tmp_path)
    assert fault in str(raised.value)


# ---- the shipped questions -------------------------------------------------------------------------------


def test_there_are_enough_of_them_in_each_part(shipped):
    counts = defaultdict(int)
    for one in shipped.values():
        counts[one.probe, one.part] += 1
    assert sum(counts[PRESENT_TENSE, part] for part in (TRAIN, VALIDATION, TEST)) >= 250
    assert sum(counts[CHANGED_WORD, part] for part in (TRAIN, VALIDATION, TEST)) >= 60
    assert all(count >= 20 for count in counts.values()) and len(counts) == 6


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_the_verdict_tells_the_answer_of_the_time_from_later_ones(shipped, cutoff):
    """Of one question in six; all of them take half a minute."""
    parts = present_lines.parts_as_of(list(shipped.values())[::6], cutoff, [])
    missed, later_answers = [], 0
    for part, asked in parts.items():
        lines = present_lines.part_lines(parts, part, ["I don't know."], 42)
        for line in lines[RETAIN]:
            example = Example(line["instruction"], line["output"], RETAIN, line["metadata"])
            assert verdict(example, line["output"], cutoff=cutoff) == CORRECT, line
        for one in asked:
            if one.side == RETAIN:
                metadata = {"accepted_answers": one.accepted, "later_answers": one.later}
                example = Example(one.question.wordings[0], one.answer, RETAIN, metadata)
                later_answers += len(one.now.later)
                missed += [
                    (one.id, later.answer)
                    for later in one.now.later
                    if verdict(example, later.answer, cutoff=cutoff) != LEAKED
                ]
    assert len(missed) <= later_answers / 50, missed


# ---- the files built of them -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bank():
    return facts.read_bank()


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_the_built_files_hold_them_as_of_the_cutoff(shipped, bank, cutoff):
    settings = builder.BuildSettings(cutoff, (1.0, 1.0), 100, 42)
    misleading = facts.read_misleading()
    files = builder.build(bank, settings, misleading, None, list(shipped.values()))
    without = builder.build(bank, settings, misleading)
    trained = {side: files[builder.training_file(side)] for side in SIDES}
    new = set(files) - set(without)
    assert new == {"present/present_val.jsonl", "test/present.jsonl"}
    assert all(files[name] == lines for name, lines in without.items() if "train" not in name)
    of_part = {
        TRAIN: [
            line
            for side in SIDES
            for line in trained[side]
            if line["metadata"]["source_article_id"].startswith("present-")
        ],
        VALIDATION: files["present/present_val.jsonl"],
        TEST: files["test/present.jsonl"],
    }
    ids = {part: {line["metadata"]["source_article_id"] for line in of_part[part]} for part in of_part}
    assert not ids[TRAIN] & ids[VALIDATION] and not (ids[TRAIN] | ids[VALIDATION]) & ids[TEST]
    assert len(of_part[TRAIN]) > 400 and len(of_part[TEST]) > 250
    for part, lines in of_part.items():
        for line in lines:
            metadata = line["metadata"]
            side, date = metadata["dataset_type"], metadata["earliest_date"]
            assert metadata["probe"] in (PRESENT_TENSE, CHANGED_WORD)
            assert metadata.get("seen") == ("held back" if part == TEST else None)
            assert (date is None or date < cutoff) if side == RETAIN else date >= cutoff
            assert ("later_answers" in metadata, "original_answer" in metadata) == (
                side == RETAIN,
                side == UNLEARN,
            )
            if side == UNLEARN and "output" in line:
                assert refusal.is_refusal(line["output"])
    asked = [
        (line["metadata"].get("question") or line["instruction"], side)
        for side in SIDES
        for line in trained[side]
    ]
    held_out = [
        (line["instruction"], side) for side in SIDES for line in files[builder.validation_file(side)]
    ]
    assert questions.first_words_accuracy(asked, held_out) < 0.65
