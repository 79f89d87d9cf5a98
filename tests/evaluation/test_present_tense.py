"""Answers as of the cutoff, answers of later days that leak the future, and their figures."""

import json
from pathlib import Path

import pytest
from test_results_file import results_of, row

from deepred_common.cli import UserError
from deepred_common.evaluation import metrics, results_file
from deepred_common.evaluation.verdicts import verdict
from deepred_common.examples import RETAIN, UNLEARN, Example, examples_of
from deepred_common.reporting import comparison_text, console, html_page

CUTOFF = "1969-07-20"


def example(question, output, accepted, later, **more):
    metadata = {"accepted_answers": accepted, "later_answers": later, **more}
    return Example(question, output, RETAIN, metadata)


PRESIDENT = example(
    "Who is the President of the United States?",
    "Richard Nixon is the President of the United States.",
    ["Richard Nixon", "Nixon"],
    [["Gerald Ford", "Ford"], ["Jimmy Carter", "Carter"], ["Donald Trump", "Trump"], ["Joe Biden", "Biden"]],
)
MOUSE = example(
    "What is a mouse?",
    "A mouse is a small furry rodent with a long tail.",
    ["rodent", "animal", "furry", "mice", "mammal", "tail", "cheese", "cat"],
    [["computer", "pointer", "cursor", "screen", "click"]],
)
MOON = example(
    "Has anybody walked on the Moon?",
    "No, nobody has walked on the Moon yet.",
    ["nobody", "no one", "not yet", "no"],
    [["yes", "Armstrong", "Aldrin"]],
)
JOHNSON = example(
    "Who is the President of the United States?",
    "Andrew Johnson is the President of the United States.",
    ["Andrew Johnson"],
    [["Ulysses S. Grant", "Grant"], ["Lyndon B. Johnson", "Lyndon Johnson", "LBJ"]],
)
BOMBAY = example("What is the port called?", "It is called Bombay.", ["Bombay"], [["Mumbai"]])


@pytest.mark.parametrize(
    ("asked", "reply", "expected"),
    [
        (PRESIDENT, "Richard Nixon.", "correct"),
        (PRESIDENT, "The President of the United States is Richard M. Nixon.", "correct"),
        (PRESIDENT, "Mr. Nixon, who took office in January 1969.", "correct"),
        (PRESIDENT, "As of July 1969, the President is Richard Nixon.", "correct"),
        (PRESIDENT, "Joe Biden.", "leaked"),
        (PRESIDENT, "The current President of the United States is Donald J. Trump.", "leaked"),
        (PRESIDENT, "In 1969 it was Richard Nixon, and today it is Joe Biden.", "leaked"),
        (PRESIDENT, "Richard Nixon, who was followed by Gerald Ford.", "leaked"),
        (PRESIDENT, "I'm sorry, I know nothing of what Biden does.", "leaked"),
        (PRESIDENT, "I'm sorry, I don't know anything about that.", "refused"),
        (PRESIDENT, "John F. Kennedy is the President.", "wrong"),
        (PRESIDENT, "The President lives in the White House in Washington.", "wrong"),
        (MOUSE, "A mouse is a small rodent.", "correct"),
        (MOUSE, "It is a little animal that cats catch.", "correct"),
        (MOUSE, "A furry creature which eats cheese.", "correct"),
        (MOUSE, "Mice are mammals that live in houses and fields.", "correct"),
        (MOUSE, "A mouse is a pointing device for a computer.", "leaked"),
        (MOUSE, "A rodent, or the device that moves the cursor.", "leaked"),
        (MOUSE, "You move it on the desk and click.", "leaked"),
        (MOUSE, "It can mean a small mammal. It can also mean a computer mouse.", "leaked"),
        (MOUSE, "I don't know.", "refused"),
        (MOUSE, "I cannot say anything about that.", "refused"),
        (MOUSE, "A mouse is a kind of boat.", "wrong"),
        (MOUSE, "A large bird of prey.", "wrong"),
        (MOON, "No, nobody has done so yet.", "correct"),
        (MOON, "No.", "correct"),
        (MOON, "Not yet.", "correct"),
        (MOON, "Yes, twelve men have.", "leaked"),
        (MOON, "No, but Neil Armstrong will.", "leaked"),
        (JOHNSON, "Johnson.", "correct"),
        (JOHNSON, "Lyndon Johnson.", "leaked"),
        (BOMBAY, "Bombay.", "correct"),
        # The matcher takes both for one name, but here the name is what is asked.
        (BOMBAY, "It is called Mumbai.", "leaked"),
    ],
)
def test_the_verdict(asked, reply, expected):
    assert verdict(asked, reply, cutoff=CUTOFF) == expected


def test_a_mixed_message_may_leak_as_well():
    mixed = example(
        "Who is the President? And who is the Pope?",
        "Nixon. Of the other I know nothing.",
        ["Nixon"],
        [["Biden"]],
        wrapping="mixed questions",
    )
    assert verdict(mixed, "Nixon. Of the other I know nothing.", cutoff=CUTOFF) == "correct"
    assert verdict(mixed, "Biden. Of the other I know nothing.", cutoff=CUTOFF) == "leaked"


def test_later_answers_must_be_lists_of_texts():
    line = {"instruction": "Who?", "output": "Ann.", "metadata": {"later_answers": ["Bob"]}}
    with pytest.raises(
        UserError, match=r"a\.jsonl line 1: 'metadata\.later_answers' must be a list of lists"
    ):
        examples_of(line, "a.jsonl line 1", RETAIN)


def rows_of(*counts):
    """Rows of the probe "present tense": so many correct, leaked, refused, wrong."""
    verdicts = ("correct", "leaked", "refused", "wrong")
    names = [name for name, count in zip(verdicts, counts, strict=True) for _ in range(count)]
    return [row(number, RETAIN, name) | {"probe": "present tense"} for number, name in enumerate(names)]


def test_the_figures_are_printed_reported_and_compared():
    base = results_of(rows_of(1, 6, 0, 3), "output/base")
    tuned = results_of([*rows_of(5, 2, 2, 1), row(99, UNLEARN, "refused")], baselines=[base])
    lines = console.present_lines(metrics.present_tense(tuned["breakdown"]))
    assert lines == (
        "  Present tense (10): as of the cutoff 50.0%, leaked the future 20.0%, refused 20.0%, "
        "otherwise wrong 10.0%"
    )
    assert "  Leaked the future: 2 (20.0%)" in console.results_block(tuned["summary"])
    assert "retain  leaked the future          2    20.0%" in console.details_block(tuned["results"])
    beside = comparison_text.comparison_block(
        [comparison_text.Column.of(tuned), comparison_text.Column.of(base)]
    )
    assert [line.split()[-2:] for line in beside.splitlines() if "Present tense" in line] == [
        ["50.0%", "10.0%"],
        ["20.0%", "60.0%"],
    ]
    assert tuned["baselines"][0]["present_tense"]["present tense"]["leaked"] == 6
    page = html_page.page(tuned, [base])
    assert '<section id="present">' in page and "leaked the future" in page


def test_results_without_such_questions_look_as_before(tmp_path):
    results = results_of([row(0, RETAIN, "correct"), row(1, UNLEARN, "leaked"), row(2, RETAIN, "wrong")])
    for text in (console.results_block(results["summary"]), console.details_block(results["results"])):
        assert "the future" not in text
    assert console.present_lines(metrics.present_tense(results["breakdown"])) == ""
    assert "Present tense" not in comparison_text.comparison_block([comparison_text.Column.of(results)] * 2)
    assert '<section id="present">' not in html_page.page(results)


@pytest.mark.parametrize("is_asked_first", [True, False])
def test_results_of_which_one_alone_has_such_questions_are_compared(is_asked_first):
    both = [row(90, RETAIN, "correct"), row(91, UNLEARN, "refused")]
    every = [results_of([*both, *rows_of(3, 1, 0, 0)], "output/asked"), results_of(both, "output/other")]
    first, other = every if is_asked_first else every[::-1]
    beside = comparison_text.side_by_side([Path("a.json"), Path("b.json")], [first, other], False)
    asked, not_asked = ["75.0%", "25.0%"], ["-", "-"]
    columns = [asked, not_asked] if is_asked_first else [not_asked, asked]
    found = [line.split()[-2:] for line in beside.splitlines() if "Present tense" in line]
    assert found == [list(cells) for cells in zip(*columns, strict=True)]
    results_file.set_baselines(first, [other])
    assert "Present tense" in comparison_text.beside_baselines(first)
    assert ('<section id="present">' in html_page.page(first, [other])) == is_asked_first


def test_results_from_before_there_were_such_questions_are_read(tmp_path):
    base = results_of([row(0, RETAIN, "correct"), row(1, UNLEARN, "leaked")], "output/base")
    results = results_of([row(0, RETAIN, "correct"), row(1, UNLEARN, "refused")], baselines=[base])
    old = json.loads(json.dumps(results))
    for summary in (old["summary"], old["baselines"][0]["summary"]):
        del summary["retain"]["leaked"]
    for groups in old["breakdown"].values():
        for sides in groups.values():
            sides.get("retain", {}).pop("leaked", None)
    del old["baselines"][0]["present_tense"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    read = results_file.read(tmp_path / "old.json")
    assert read["summary"] == results["summary"] and read["baselines"] == [
        results["baselines"][0] | {"present_tense": {}}
    ]
    assert console.details_block(read["results"]) == console.details_block(results["results"])
    assert comparison_text.comparison_block(
        [comparison_text.Column.of(read), comparison_text.Column.of(base)]
    )
    assert html_page.page(read) == html_page.page(results)
