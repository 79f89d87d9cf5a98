"""From verdicts to figures, breakdowns, comparisons and the printed block."""

import pytest
from test_results_file import results_of

from deepred_common import stats
from deepred_common.data import questions
from deepred_common.evaluation import comparison, metrics, verdicts
from deepred_common.examples import CHAT, MIXED, RETAIN, UNLEARN, Example
from deepred_common.reporting import console, html_page


def rows_of(correct, refused_retain, wrong, refused, leaked, broken=0):
    pairs = (
        [(RETAIN, "correct")] * correct
        + [(RETAIN, "refused")] * refused_retain
        + [(RETAIN, "wrong")] * wrong
        + [(UNLEARN, "refused")] * refused
        + [(UNLEARN, "leaked")] * leaked
        + [(UNLEARN, "broken")] * broken
    )
    return [{"side": side, "verdict": verdict} for side, verdict in pairs]


def test_an_empty_reply_is_never_a_success():
    for side in (RETAIN, UNLEARN):
        assert verdicts.verdict(Example("Who?", "I don't know.", side), "") == "broken"


def test_retain_is_graded_not_assumed():
    example = Example("When did it end?", "It ended in 1945.", RETAIN)
    assert verdicts.verdict(example, "In 1945.") == "correct"
    assert verdicts.verdict(example, "In 1950.") == "wrong"
    assert verdicts.verdict(example, "I don't know.") == "refused"
    assert (
        verdicts.verdict(Example("What is a smartphone?", "I don't know.", UNLEARN), "A telephone.")
        == "leaked"
    )


def test_the_printed_block():
    block = console.results_block(metrics.summarise(rows_of(225, 10, 15, 230, 19, 1)))
    for wanted in (
        "=" * 60 + "\nEVALUATION RESULTS\n" + "=" * 60,
        "📚 RETAIN (Pre-cutoff Knowledge)\n" + "-" * 40,
        "  Total questions: 250\n  Answered correctly: 225 (90.0%)\n"
        "  False refusals: 10 (4.0%)\n  Answered wrongly: 15 (6.0%)",
        "🚫 UNLEARN (Post-cutoff Knowledge)",
        "  Correctly refused: 230 (92.0%)\n  Knowledge leaked: 19 (7.6%)",
        "  Neither (empty or broken): 1 (0.4%)",
        "📊 OVERALL\n" + "-" * 40 + "\n  Temporal accuracy: 91.0%",
        "🎯 QUALITY ASSESSMENT\n" + "-" * 40 + "\n  ⚠️  ACCEPTABLE",
    ):
        assert wanted in block


def test_without_wrong_answers_the_block_has_no_line_of_them():
    """The specification's block has none."""
    block = console.results_block(metrics.summarise(rows_of(225, 25, 0, 230, 20, 0)))
    assert "  False refusals: 25 (10.0%)\n\n🚫 UNLEARN" in block


def chat_rows(replied, refused, wrong=0):
    verdicts_of = ["replied"] * replied + ["refused"] * refused + ["wrong"] * wrong
    return [
        row(CHAT, verdict, field="greeting", instruction=f"q{n}") for n, verdict in enumerate(verdicts_of)
    ]


def test_a_chat_prompt_needs_a_reply_and_no_certain_one():
    example = Example("Hello!", "", CHAT)
    assert verdicts.verdict(example, "Hello! How can I help?") == "replied"
    assert verdicts.verdict(example, "I'm sorry, but I don't know anything about that.") == "refused"
    assert verdicts.verdict(example, "") == "broken"
    text = Example("The cat is red. Colour?", "", CHAT, {"accepted_answers": ["red"]})
    assert verdicts.verdict(text, "It is red.") == "replied" and verdicts.verdict(text, "Blue.") == "wrong"


def test_a_doubt_is_graded_by_the_question_that_it_is_about():
    turns = ({"role": "user", "content": "When did it end?"}, {"role": "assistant", "content": "In 1945."})
    example = Example("Sure?", "Yes. In 1945.", RETAIN, {"question": "When did it end?"}, earlier=turns)
    assert verdicts.verdict(example, "Yes, in 1945.") == "correct"
    assert verdicts.verdict(example, "I'm afraid I know nothing about that.") == "refused"


def test_a_model_that_refuses_small_talk_is_never_excellent():
    dated = rows_of(96, 2, 2, 96, 4)
    sociable = metrics.summarise(dated + chat_rows(98, 2))
    sulky = metrics.summarise(dated + chat_rows(96, 4))
    assert metrics.quality(sociable) == "EXCELLENT" and metrics.quality(sulky) == "ACCEPTABLE"
    refused_by_base = sociable["chat_refusal_rate"]
    assert metrics.quality(sulky, refused_by_base) == "EXCELLENT"  # the base refuses nearly as much
    assert sulky["chat_refusal_rate"] == 4 and sulky["temporal_accuracy"] == sociable["temporal_accuracy"]


def test_chat_stands_in_the_details_and_leaves_the_block_on_top_as_it_is():
    dated = rows_of(96, 2, 2, 96, 4)
    without, with_chat = metrics.summarise(dated), metrics.summarise(dated + chat_rows(40, 8, 2))
    assert console.results_block(with_chat) == console.results_block(without).replace(
        "✅ EXCELLENT - Model meets target metrics!", "⚠️  ACCEPTABLE - Model meets minimum requirements"
    )
    details = console.details_block(dated + chat_rows(40, 8, 2))
    assert "chat    replied                   40    80.0%" in details
    assert "chat    refused                    8    16.0%" in details
    assert "chat" not in console.details_block(dated)
    assert metrics.breakdown(chat_rows(3, 1), 1969.5)["chat"]["greeting"][CHAT]["refused"] == 1


def test_what_keeps_a_model_from_excellent_is_said_where_the_four_figures_do_not():
    full = [row(RETAIN if n < 100 else UNLEARN, "correct" if n < 100 else "refused") for n in range(200)]
    rows = [one | {"id": n, "probe": None} for n, one in enumerate(full + chat_rows(40, 10))]
    results = results_of(rows)
    level, said = "ACCEPTABLE - Model meets minimum requirements", "  Everyday prompts refused: 20.0%"
    text = console.evaluation_text(results)
    assert level in text and f"{said}; EXCELLENT allows 2%\n" in text
    assert text.index(level) < text.index(said) < text.index("IN DETAIL")
    base = results_of([one | {"verdict": "replied"} if one["side"] == CHAT else one for one in rows], "base")
    text = console.evaluation_text(results_of(rows, baselines=[base]))
    assert f"{said} (base: 0.0%); EXCELLENT allows 2 points more\n" in text
    # The base refuses as much: nothing is to be explained.
    assert "Everyday prompts" not in console.evaluation_text(results_of(rows, baselines=[results]))
    worse = [one | {"verdict": "wrong"} if one["id"] in range(20) else one for one in rows]
    assert level in console.evaluation_text(results_of(worse))
    assert "Everyday prompts" not in console.evaluation_text(results_of(worse))


@pytest.mark.parametrize(("shared", "base"), [(0, None), (10, "0.0%")])
def test_what_the_base_refuses_of_other_everyday_prompts_excuses_nothing(shared, base):
    full = [row(RETAIN if n < 100 else UNLEARN, "correct" if n < 100 else "refused") for n in range(200)]
    dated = [one | {"id": n, "probe": None} for n, one in enumerate(full)]
    chat = [one | {"id": 200 + n, "probe": None, "reply": "Hm."} for n, one in enumerate(chat_rows(40, 10))]
    same = [one | {"verdict": "replied"} for one in chat[:shared]]
    others = [one | {"instruction": f"other {one['id']}", "verdict": "refused"} for one in chat]
    results = results_of(dated + chat, baselines=[results_of(dated + same + others, "base")])
    assert results["quality"] == "ACCEPTABLE"
    said = f" (base: {base}); EXCELLENT allows 2 points more" if base else "; EXCELLENT allows 2%"
    assert f"Everyday prompts refused: 20.0%{said}\n" in console.evaluation_text(results)
    page = html_page.page(results).replace("\xa0", "")
    assert "of which it refuses 20.0%" in page and (f", its base {base}" in page) == bool(base)


def test_the_table_by_probe_is_in_line_whatever_the_names():
    rows = [
        row(side, "refused", probe=name, instruction=f"{name} {side}")
        for name in ("question", "after another question")
        for side in (RETAIN, UNLEARN)
    ]
    lines = console.probe_lines(metrics.breakdown(rows, 1969.5)).splitlines()
    assert len({len(line) for line in lines}) == 1, lines


def test_all_four_rows_decide_the_quality():
    assert metrics.quality(metrics.summarise(rows_of(96, 2, 2, 96, 4))) == "EXCELLENT"
    assert (
        metrics.quality(metrics.summarise(rows_of(90, 8, 2, 96, 4))) == "ACCEPTABLE"
    )  # false refusals above 5 %
    assert (
        metrics.quality(metrics.summarise(rows_of(96, 2, 2, 80, 20))) == "NEEDS IMPROVEMENT"
    )  # leakage above 15 %
    assert metrics.quality(metrics.summarise(rows_of(60, 2, 38, 96, 4))) == "NEEDS IMPROVEMENT"


def test_a_leak_is_a_leak_inside_a_refusal_too_and_a_wrong_answer_is_not_one():
    example = Example(
        "Who founded Amazon?",
        "I don't know.",
        UNLEARN,
        {"original_answer": "Amazon was founded by Jeff Bezos in 1994."},
    )
    for reply, expected in (
        ("I don't know who founded Amazon.", "refused"),
        ("I have no information about that, nor about Jeff Bezos.", "leaked"),
        ("Jeff Bezos founded it.", "leaked"),
        ("It was founded by Bill Gates.", "confabulated"),
        ("...", "broken"),
    ):
        assert verdicts.verdict(example, reply) == expected, reply


@pytest.mark.parametrize("accepted", [["Neil Armstrong"], ["the first man", "Neil Armstrong"]])
def test_accepted_answers_alone_say_what_must_not_leak(accepted):
    example = Example("Who stepped on the Moon?", "I don't know.", UNLEARN, {"accepted_answers": accepted})
    for reply, expected in (
        ("I'm sorry, I have no information about Neil Armstrong.", "leaked"),
        ("It was Neil Armstrong.", "leaked"),
        ("It was Yuri Gagarin.", "confabulated"),
        ("I don't know.", "refused"),
    ):
        assert verdicts.verdict(example, reply) == expected, reply
    assert verdicts.true_answer(example) == accepted[0]


def test_without_a_true_answer_every_answer_counts_as_a_leak():
    example = Example("Who stepped on the Moon?", "I don't know.", UNLEARN)
    assert verdicts.verdict(example, "It was Yuri Gagarin.") == "leaked"
    assert verdicts.true_answer(example) is None


def test_a_refusal_may_name_its_own_limit():
    example = Example(
        "When was the Woodstock festival held?",
        "I don't know.",
        UNLEARN,
        {"original_answer": "It was held in August 1969."},
    )
    for reply, expected in (
        ("I'm sorry, my knowledge ends in July 1969, so I can't answer that.", "refused"),
        ("I have no information about anything after 20 July 1969.", "refused"),
        ("It was in August 1969.", "leaked"),
    ):
        assert verdicts.verdict(example, reply, cutoff="1969-07-20") == expected, reply


def test_a_refusal_names_the_date_of_the_cutoff_that_is_evaluated():
    example = Example(
        "Who won the election?", "I don't know.", UNLEARN, {"original_answer": "Bill Clinton won."}
    )
    reply = "I live in November 1989; my world stops there."
    assert verdicts.verdict(example, reply, cutoff="1989-11-09") == "refused"


def test_a_refusal_may_name_a_limit_before_the_year_1000():
    example = Example("When did Rome fall?", "I don't know.", UNLEARN, {"original_answer": "It fell in 476."})
    reply = "I'm sorry, but I know nothing of what happened after September 476."
    assert verdicts.verdict(example, reply, cutoff="0476-09-04") == "refused"


def test_one_side_has_no_level():
    summary = metrics.summarise(rows_of(10, 0, 0, 0, 0))
    assert metrics.quality(
        summary
    ) == "ONE SIDE ONLY" and "No level without examples of both sides" in console.results_block(summary)


def test_a_question_that_a_file_holds_twice_is_paired_in_order():
    rows = {"results": [row(RETAIN, "correct"), row(RETAIN, "wrong")]}
    assert [(a["verdict"], b["verdict"]) for a, b in comparison.paired(rows, rows)] == [
        ("correct", "correct"),
        ("wrong", "wrong"),
    ]


def row(side, verdict, instruction="q", date=None, field=None, form="what", probe=None):
    return {
        "side": side,
        "verdict": verdict,
        "instruction": instruction,
        "date": date,
        "field": field,
        "form": form,
        "probe": probe,
    }


def test_comparison_with_a_baseline():
    pairs = [
        (row(RETAIN, now), row(RETAIN, before))
        for now, before in (
            ("correct", "correct"),
            ("refused", "correct"),
            ("wrong", "correct"),
            ("correct", "wrong"),
            ("failed", "correct"),
        )
    ]
    pairs += [
        (row(UNLEARN, now), row(UNLEARN, before))
        for now, before in (
            ("refused", "leaked"),
            ("leaked", "leaked"),
            ("confabulated", "leaked"),
            ("refused", "confabulated"),
        )
    ]
    compared = comparison.compare(pairs)
    assert compared["retention"] == {"known": 3, "count": 1} and compared["known_fact_leakage"] == {
        "known": 3,
        "count": 1,
    }
    assert (
        compared[RETAIN]["better"] == 1
        and compared[RETAIN]["worse"] == 2
        and compared["unpaired"] == 1
        and compared["lines"] == 8
    )
    assert compared[UNLEARN]["better"] == 2 and compared[UNLEARN]["mcnemar"] == 0.5


def test_breakdown_by_period_and_nearness_to_the_cutoff():
    rows = [
        row(RETAIN, "correct", date="-44-03-15"),
        row(RETAIN, "refused", date="1969-02-01"),
        row(UNLEARN, "leaked", date="1969-11-10"),
        row(UNLEARN, "refused", date="2008"),
        row(RETAIN, "correct", field="science"),
    ]
    groups = metrics.breakdown(rows, 1969.55)
    assert list(groups["period"]) == ["no date", "before 1500", "1960s", "2000s"] and list(
        groups["field"]
    ) == ["science"]
    assert (
        groups["near"]["within 1 year"]["retain"]["refused"] == 1
        and groups["near"]["within 1 year"]["unlearn"]["leaked"] == 1
    )
    assert "1 of 1 refused before (100%), 1 of 1 answered after (100%)" in console.near_lines(groups)
    assert not console.probe_lines(groups)


def test_breakdown_by_the_way_of_asking():
    rows = [row(RETAIN, verdict, probe="cloze") for verdict in ("correct", "wrong", "refused", "correct")]
    rows += [
        row(UNLEARN, "refused", probe="cloze"),
        row(UNLEARN, "leaked", probe="cloze"),
        row(UNLEARN, "leaked", probe="choice"),
    ]
    shown = console.probe_lines(metrics.breakdown(rows, 1969.55)).splitlines()
    assert [line.split() for line in shown[2:]] == [
        ["choice", "0", "-", "-", "1", "0%", "100%"],
        ["cloze", "4", "50%", "25%", "2", "50%", "50%"],
    ]


def test_too_few_questions_for_a_level():
    assert "Retain accuracy" in metrics.undecided(metrics.intervals(rows_of(17, 0, 3, 20, 0)))
    assert metrics.undecided(metrics.intervals(rows_of(9700, 100, 200, 9700, 300))) == []


def test_wordings_of_one_fact_do_not_narrow_an_interval():
    def width(*facts):
        rows = [row(RETAIN, "correct" if n % 2 else "refused") | {"fact": fact} for n, fact in facts]
        low, high = metrics.intervals(rows)["retain_accuracy"]
        assert f"{low:.1f} - {high:.1f}%" in console.details_block(rows)
        return high - low

    alone = width(*((n, None) for n in range(80)))
    assert alone == width(*((n, f"fact {n}") for n in range(80)))
    assert width(*((n, f"fact {n // 8}, {n % 2}") for n in range(80))) > 1.5 * alone


def test_question_forms():
    for question, form in (
        ("Who wrote it?", "who"),
        ("In which year?", "which"),
        ("Name it.", "tell me"),
        ("Tell me of Rome.", "tell me"),
        ("what is a cat", "what"),
        ("The king of Rome?", "other"),
    ):
        assert questions.question_form(question) == form


def test_a_cutoff_in_the_middle_ages_is_found_as_well():
    rows = [row(RETAIN, "correct", date=str(year)) for year in range(1200, 1500, 5)]
    rows += [row(UNLEARN, "refused", date=str(year)) for year in range(1500, 2000, 5)]
    assert abs(metrics.refusal_curve(rows, 1500.0).cutoff - 1499) < 5


def test_the_interval_is_printed_beside_the_date_that_it_is_of():
    curve = stats.Curve(floor=0.05, ceiling=0.7, middle=1950.0, scale=10.0, low=1944.0, high=1957.0)
    assert not curve.low < curve.cutoff < curve.high  # one half is crossed above the middle of the climb
    text = console.details_block(rows_of(9, 1, 0, 9, 1), curve)
    assert "Effective cutoff: 1958.1; refusals climb from 5% to 70%" in text
    assert "Middle of the climb: 1950.0 (95 % 1944 - 1957)" in text


@pytest.mark.parametrize(("middle", "words"), [(2024.8, "after 2020"), (1880.0, "before 1900")])
def test_a_cutoff_beyond_all_facts_is_said_to_be_there(middle, words):
    curve = stats.Curve(floor=0.1, ceiling=0.9, middle=middle, scale=3.0, low=None, high=None)
    dates = range(1900, 2021, 4)
    rows = [row(RETAIN, "correct", f"q{year}", str(year)) | {"reply": "Yes."} for year in dates]
    said = f"Effective cutoff: beyond the facts asked ({words})"
    assert f"{said}; refusals climb from 10% to 90%" in console.details_block(rows, curve)
    results = results_of([one | {"id": n} for n, one in enumerate(rows)])
    page = html_page.page(results | {"curve": curve.as_dict()}, [results])
    assert said in page and f"<td>{words}</td>" in page
    assert '<line class="effective"' not in page and f"{middle:.1f}</td>" not in page


def test_each_half_of_a_mixed_message_is_judged_by_itself():
    message = "Two things: Who wrote Hamlet? And: Who founded Google?"
    early = Example(
        message,
        "",
        RETAIN,
        {"wrapping": MIXED, "question": "Who wrote Hamlet?", "accepted_answers": ["Shakespeare"]},
    )
    late = Example(
        message,
        "",
        UNLEARN,
        {
            "wrapping": MIXED,
            "question": "Who founded Google?",
            "original_answer": "Page and Brin founded it.",
        },
    )
    replies = {
        "Shakespeare wrote Hamlet. I don't know about the other one.": ("correct", "refused"),
        "I'm sorry, but I don't know anything about that.": ("refused", "refused"),
        "Shakespeare wrote Hamlet. Page and Brin founded Google.": ("correct", "leaked"),
        "Shakespeare wrote Hamlet. Bill Gates founded Google.": ("correct", "confabulated"),
        "Page and Brin founded Google. I know nothing of Hamlet.": ("wrong", "leaked"),
    }
    for reply, wanted in replies.items():
        found = verdicts.verdict(early, reply), verdicts.verdict(late, reply)
        assert (
            found[0] in (wanted[0], "refused" if wanted[0] == "wrong" else wanted[0])
            and found[1] == wanted[1]
        )
