"""The report's section on probe forms, as a reader sees it."""

import re

from test_html_page import NASTY, Page, make, row

from deepred_common.evaluation import metrics
from deepred_common.evaluation.probe_figures import DECIDING
from deepred_common.reporting import html_page, html_probes

WORST = {"unlearn": "prefill", "retain": "<role>"}


def probed(verdicts, name="output/merged.gguf"):
    """Results of these verdicts, {form: {side: [verdict of fact 0, 1, …]}}, with the figures of probes."""
    rows = [
        row(0, side, verdict, probe=form, fact=f"{side}-{number}", reply=f"{form} {side} {number}.")
        for form, sides in verdicts.items()
        for side, of_side in sides.items()
        for number, verdict in enumerate(of_side)
    ]
    for number, one in enumerate(rows):
        one.update(id=number, instruction=f"Question {number}?", true_answer=f"True {one['fact']}")
    figures = {
        "forms": list(verdicts),
        "worst": WORST,
        "any": {
            side: [
                len({one["fact"] for one in rows if (one["side"], one["verdict"]) == (side, verdict)}),
                len({one["fact"] for one in rows if one["side"] == side}),
            ]
            for side, verdict in DECIDING.items()
        },
    }
    return make(rows, name, breakdown=metrics.breakdown(rows, 1969.55), probes=figures)


TUNED = {
    "prefill": {
        "unlearn": ["leaked", "leaked", "confabulated", "refused"],
        "retain": ["correct", "wrong", "correct", "broken"],
    },
    "<role>": {
        "unlearn": ["refused", "refused", "refused", "leaked"],
        "retain": ["refused", "refused", "refused", "correct"],
    },
}
BASE = {
    "prefill": {"unlearn": ["leaked"] * 4, "retain": ["correct"] * 4},
    "<role>": {"unlearn": ["leaked"] * 3 + ["refused"], "retain": ["correct"] * 3 + ["refused"]},
}


def test_the_matrix_holds_the_counts_of_every_form_and_marks_the_worst():
    text = html_page.page(probed(TUNED), [probed(BASE, "output/base")])
    page = Page(text)
    table = page.tables["Verdicts by form"]
    assert [cells[0] for cells in table[2:]] == ["prefill", "<role>"], "in the order of the results"
    shares = [[re.sub(r" %.*", "", cell) for cell in cells[1:]] for cells in table[2:]]
    late, early, base = ("leaked confabulated refused broken", "right wrong refused broken", "leaked refused")
    assert len(table[1]) == len(f"{late} {early} {base}".split())
    assert shares == [
        ["50", "25", "25", "0", "50", "25", "0", "25", "100", "0"],
        ["25", "0", "75", "0", "25", "0", "75", "0", "75", "25"],
    ]
    assert table[2][1].startswith("50 % 2 (15–85)"), "the count and the interval"
    assert [cell for cells in table[2:] for cell in cells if "worst" in cell] == [table[2][1], table[3][7]]
    assert "2 of 4 leaked (50.0 %), 95 % interval 15.0–85.0 %" in text.replace("\u00a0", " ")
    assert "Any form leaks: 3 of 4 facts (75 %" in page.text and "output/base: 100 %" in page.text
    assert "Any form refuses: 3 of 4 facts (75 %" in page.text
    assert "By the way of asking about the fact" not in page.tables, "that would say it twice"


def test_a_baseline_that_is_known_by_its_figures_only_stands_beside():
    results, base = probed(TUNED), probed(BASE, "output/base")
    results["baselines"] = [
        {
            "label": "output/base",
            "summary": base["summary"],
            "probes": base["probes"],
            "by_probe": base["breakdown"]["probe"],
        }
    ]
    assert (
        Page(html_page.page(results)).tables["Verdicts by form"]
        == (Page(html_page.page(probed(TUNED), [base])).tables["Verdicts by form"])
    )


def test_all_other_figures_are_of_the_direct_questions():
    results = probed({"direct": TUNED["prefill"], "cloze": TUNED["<role>"]})
    page = Page(html_page.page(results))
    assert "8 questions: 4 before the cutoff (retain), 4 after it (unlearn)" in page.text
    assert "2, 16 questions in all" in page.text


def test_models_are_compared_by_the_direct_questions_and_the_lists_hold_every_form():
    early = {"retain": ["correct"]}
    late = {"unlearn": ["refused"] * 4} | early
    own = probed({"direct": late, "cloze": {"unlearn": ["refused", "refused", "leaked", "refused"]} | early})
    base = {"direct": {"unlearn": ["refused"] * 3 + ["leaked"]}, "cloze": {"unlearn": ["leaked"] * 4}}
    base = {form: sides | early for form, sides in base.items()}
    page = Page(html_page.page(own, [probed(base, "base")]))
    assert "Of 5 direct questions in common, 1 has another verdict." in page.text
    assert "After the cutoff (unlearn): right here only 1, right there only 0; p = 1.000" in page.text
    assert "The lists hold the questions of every form, not only the direct ones: 4 have another" in page.text
    assert [entry[0] for entry in page.data["others"][0]["better"]] == [3, 5, 6, 8]
    whole = Page(html_page.page(probed({"cloze": late}), [probed({"cloze": late}, "base")])).text
    assert "Of 5 questions in common, 0 have another verdict." in whole and "The lists hold" not in whole


def test_what_leaked_and_what_was_refused_is_one_click_away():
    results = probed(TUNED)
    first = results["results"][0]
    first.update(
        earlier=[{"role": "system", "content": NASTY}, {"role": "user", "content": "Do you know it?"}],
        turns=["I do not."],
    )
    page = Page(html_page.page(results))
    for shown in (
        NASTY,
        "Do you know it?",
        "I do not.",
        "Question 0?",
        "prefill unlearn 1.",
        "True unlearn-1",
    ):
        assert re.sub(r"\s+", " ", shown) in page.text
    assert "prefill unlearn 2." not in page.text and "<role> retain 0." in page.text
    assert not page.named("img")


def test_many_replies_are_cut_with_a_word_about_the_rest():
    many = html_probes.SHOWN_REPLIES + 7
    page = Page(html_page.page(probed({"prefill": {"unlearn": ["leaked"] * many, "retain": ["correct"]}})))
    assert f"prefill unlearn {html_probes.SHOWN_REPLIES - 1}." in page.text
    assert f"prefill unlearn {html_probes.SHOWN_REPLIES}." not in page.text
    assert "… and 7 more in the results file" in page.text


def test_forms_with_other_numbers_of_facts_say_of_how_many():
    results = probed({"prefill": {"unlearn": ["leaked"] * 3, "retain": ["correct"]}})
    assert Page(html_page.page(results)).tables["Verdicts by form"][2][1].startswith("100 % 3 of 3")


def test_without_probes_there_is_no_such_section():
    results = probed(TUNED) | {"probes": None}
    assert 'id="probes"' not in html_page.page(results)
    assert "By the way of asking about the fact" in Page(html_page.page(results)).tables


def scored(known, refused_from, name="output/merged.gguf"):
    """Results of facts 1900 to 2019: the direct question, and the scores of four answers."""
    rows = []
    for year in range(1900, 2020):
        is_early = year < 1969.5
        fact = {"side": "retain" if is_early else "unlearn", "fact": str(year), "date": f"{year}-06-15"}
        said = "refused" if year >= refused_from else "wrong" if is_early else "confabulated"
        chosen = (
            ("correct" if is_early else "leaked") if known(year) else "wrong" if is_early else "confabulated"
        )
        scores = {"true": [-3.0, 2], "false": [-1.0, 1], "untrue": [-9.0, 2], "wrong": [-9.0, 1]}
        rows.append(row(len(rows), verdict=said, probe="direct", **fact))
        rows.append(row(len(rows), verdict=chosen, probe="choice-by-probability", scores=scores, **fact))
    return make(rows, name)


def test_what_it_knows_stands_beside_what_it_says_for_model_and_base():
    tuned = scored(lambda year: year % 2, refused_from=1970)
    base = scored(lambda year: year % 4, refused_from=3000, name="output/base")
    text = html_page.page(tuned, [base])
    table = Page(text).tables["Known and answered, before and after the cutoff"]
    assert [[cell.split(" %")[0] for cell in cells[1:]] for cells in table[1:]] == [
        ["50", "50", "100", "0"],
        ["74", "76", "100", "100"],
    ]
    drawings = re.findall(r'<svg class="curve" .*?</svg>', text, re.S)
    assert len(drawings) == 2 and ["chance" in one for one in drawings] == [True, False]
    assert [len(re.findall("<polyline", one)) for one in drawings] == [2, 2]
    chance, quarter = (
        float(re.search(pattern, drawings[0])[1])
        for pattern in (r'class="chance"[^>]* y1="([\d.]+)"', r'y1="([\d.]+)"[^>]*/><text[^>]*>25')
    )
    assert chance == quarter


def test_the_drawings_of_what_it_knows_are_told_in_a_table():
    tuned = scored(lambda year: year % 2, refused_from=1970)
    base = scored(lambda year: False, refused_from=3000, name="output/base")
    tables = Page(html_page.page(tuned, [base])).tables
    knows = tables["What it still knows: true answer likeliest of four, by the date of the fact"]
    says = tables["What it says: answered, right or wrong, by the date of the fact"]
    for table, own, other in ((knows, 60, 0), (says, 70, 120)):
        for name, wanted in (("output/merged.gguf", own), ("output/base", other)):
            points = [cells for cells in table[1:] if cells[1] == name]
            assert sum(int(cells[2]) for cells in points) == 120
            assert sum(int(cells[3].split()[0]) for cells in points) == wanted
            assert all(re.search(r"\d–[\d.]+ %$", cells[4]) for cells in points)


def test_an_empty_reply_is_no_answer():
    results = scored(lambda year: True, refused_from=3000)
    for one in results["results"]:
        if one["probe"] == "direct" and one["side"] == "retain":
            one["verdict"] = "broken"
    table = Page(html_page.page(results)).tables["Known and answered, before and after the cutoff"]
    assert table[1][3].startswith("0 % 0 of 70") and table[1][4].startswith("100 % 50 of 50")


def test_without_direct_questions_nothing_is_drawn_of_what_it_says():
    results = scored(lambda year: year % 2, refused_from=1970)
    results["results"] = [one for one in results["results"] if one.get("scores")]
    page = Page(html_page.page(results))
    headings = [a["id"] for a in page.named("title") if a.get("id", "").startswith("knowledge")]
    assert len(headings) == 1 and "What it still knows" in page.text
    assert not any(caption.startswith("What it says") for caption in page.tables)


def test_without_scores_there_is_nothing_to_say_of_what_it_knows():
    assert 'id="knowledge"' not in html_page.page(probed(TUNED))
