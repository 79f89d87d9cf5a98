"""Results side by side: the table by forms of asking."""

from pathlib import Path

from test_results_file import results_of, row

from deepred_common.reporting import comparison_text


def results_by_forms(name, leaked, refused):
    """Results of 10 questions a side in each form. leaked, refused: {form: how many of them}."""
    rows = []
    for form in leaked:
        for number in range(10):
            for side, verdict, other, count in (
                ("unlearn", "leaked", "refused", leaked[form]),
                ("retain", "refused", "correct", refused[form]),
            ):
                given = verdict if number < count else other
                rows.append(row(len(rows), side, given) | {"probe": form})
    return results_of(rows, f"models/{name}.gguf")


def test_the_table_by_forms_fits_five_results_and_marks_what_differs_most():
    every = [results_by_forms("f16", {"cloze": 3, "question": 1}, {"cloze": 2, "question": 2})]
    every += [
        results_by_forms(name, {"cloze": 3, "question": 4}, {"cloze": 1, "question": 2})
        for name in ("q8_0", "q5_k_m", "q4_k_m")
    ]
    every.append(results_by_forms("q3_k_m-with-a-long-name", {"cloze": 10}, {"cloze": 9}))
    lines = comparison_text.forms_block(every).splitlines()
    assert max(map(len, lines)) <= 110
    cells = [line.split() for line in lines]
    assert cells[2] == ["questions", "f16.gguf", "q8_0.gguf", "q5_k_m.gguf", "q4_k_m.gguf", "…ng-name.gguf"]
    assert ["cloze", "10", "30.0%", "30.0%", "30.0%", "30.0%", "100.0%*"] in cells
    assert ["question", "10", "10.0%", "40.0%", "40.0%", "40.0%", "-"] in cells
    assert ["cloze", "10", "20.0%", "10.0%", "10.0%", "10.0%", "90.0%*"] in cells
    assert not any("any form" in line for line in lines)  # only --probes asks each fact in every form
    assert cells[-1] == "* differs most from the first".split()
    assert "differs" not in comparison_text.forms_block([every[0], every[0]])
    assert comparison_text.forms_block([results_of([row(0, "retain", "correct")])] * 2) == ""


def test_facts_that_any_form_gets_out_are_compared_too():
    every = [results_by_forms(name, {"cloze": 3, "direct": 1}, {"cloze": 0, "direct": 0}) for name in "ab"]
    for one, leaked in zip(every, (3, 4), strict=True):
        one["probes"] = {"forms": ["direct", "cloze"], "worst": {}, "any": {"unlearn": [leaked, 10]}}
    cells = [line.split() for line in comparison_text.forms_block(every).splitlines()]
    assert [line[0] for line in cells[4:6]] == ["direct", "cloze"]
    assert ["any", "form,", "of", "the", "facts", "10", "30.0%", "40.0%*"] in cells


def test_with_probes_what_is_kept_is_counted_of_the_questions_that_the_rates_are_of():
    every = [
        results_by_forms(name, {"direct": 0, "cloze": 0}, refused)
        for name, refused in (("tuned", {"direct": 2, "cloze": 9}), ("base", {"direct": 0, "cloze": 0}))
    ]
    for one in every:
        one["probes"] = {"forms": ["direct", "cloze"], "worst": {}, "any": {}}
    text = comparison_text.side_by_side([Path("a.json"), Path("b.json")], every, False)
    (kept,) = [line for line in text.splitlines() if "This keeps of its right answers" in line]
    assert kept.split()[-1] == "80.0%" and "Questions in common: 40. Verdicts that differ: 11\n" in text


def test_many_verdicts_that_differ_do_not_push_the_tables_out_of_sight():
    none, all_ = ({"cloze": count, "question": count} for count in (0, 10))
    every = [results_by_forms("a", none, none), results_by_forms("b", all_, all_)]
    files = [Path("a.json"), Path("b.json")]
    shown, full = (comparison_text.side_by_side(files, every, verbose) for verbose in (False, True))
    assert "Verdicts that differ: 40\n" in shown and "… and 20 more; --verbose lists them all" in shown
    assert shown.count(" here, ") == 20
    assert "more; --verbose" not in full


def test_a_verdict_that_differs_says_whose_is_which():
    tuned, base = (row(0, "retain", verdict) for verdict in ("correct", "wrong"))
    every = [results_of([tuned | {"reply": "In 1945."}], "f16"), results_of([base | {"reply": "No."}], "q3")]
    text = comparison_text.side_by_side([Path("a.json"), Path("b.json")], every, True)
    assert "f16 (a.json, here) against q3 (b.json, there). Questions in common: 1. Verdicts that" in text
    assert " differ: 1\n" in text
    lines = text.splitlines()
    assert "  retain: correct here, wrong there  Question 0?" in lines
    assert "      here, f16: In 1945." in lines and "      there, q3: No." in lines


def test_of_a_conversation_every_turn_is_shown_and_every_reply():
    """Of the form `pressure` the last turn alone does not even name the fact."""
    earlier = [{"role": "user", "content": text} for text in ("Who built it?", "Please tell me.")]
    asked = {"instruction": "My last try.", "earlier": earlier, "prefix": ""}
    here = row(0, "unlearn", "leaked") | asked | {"turns": ["It was Bell."], "reply": "I can't say."}
    there = row(0, "unlearn", "refused") | asked | {"turns": ["No.", "No idea."], "reply": "Sorry."}
    begun = {"prefix": "The answer is", "earlier": []}
    pairs = [here, row(1, "retain", "correct") | begun], [there, row(1, "retain", "wrong") | begun]
    every = [results_of(rows, name) for rows, name in zip(pairs, "ab", strict=True)]
    text = comparison_text.side_by_side([Path("a.json"), Path("b.json")], every, True)
    assert "  user: Who built it? | user: Please tell me. | user: My last try.\n" in text
    assert "here, a: It was Bell. | I can't say.\n" in text and "there, b: No. | No idea. | Sorry.\n" in text
    assert "  user: Question 1? | assistant: The answer is …\n" in text


def test_a_long_name_of_a_form_keeps_the_columns_in_line():
    name = "after a very long other question"
    every = [results_by_forms(label, {name: 1, "cloze": 2}, {name: 1, "cloze": 2}) for label in "ab"]
    lines = comparison_text.forms_block(every).splitlines()
    assert len({len(line.rstrip("* ")) for line in lines if "cloze" in line or name in line}) == 1


def test_a_missing_reply_is_no_verdict_that_differs():
    verdicts = ("correct", "failed", "refused"), ("correct", "correct", "correct")
    every = [
        results_of([row(number, "retain", verdict) for number, verdict in enumerate(of_one)], name)
        for name, of_one in zip("ab", verdicts, strict=True)
    ]
    text = comparison_text.side_by_side([Path("a.json"), Path("b.json")], every, False)
    assert "Questions in common: 3 (1 without a reply by one of the two). Verdicts that differ: 1\n" in text
    assert "failed" not in text


def test_what_is_kept_of_one_question_is_told_in_right_words():
    rows = [row(0, "retain", "correct")]
    text = comparison_text.beside_baselines(results_of(rows, "tuned", baselines=[results_of(rows, "base")]))
    assert text.endswith("that the baseline answers correctly, still correct: 1 of 1 (100.0%)")


def test_columns_of_different_questions_say_so():
    whole = [row(number, "retain", "correct" if number < 2 else "refused") for number in range(8)]
    results = results_of(whole[:2], "tuned", baselines=[results_of(whole, "base")])
    cells = [line.split() for line in comparison_text.beside_baselines(results).splitlines()]
    assert ["Questions", "2", "8"] in cells and ["In", "common", "with", "this", "2"] in cells
    assert "The columns are of different questions." in comparison_text.beside_baselines(results)
    results = results_of(whole, "tuned", baselines=[results_of(whole, "base")])
    assert "uestions" not in comparison_text.beside_baselines(results).split("Retention")[0]
