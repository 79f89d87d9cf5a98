"""The frontier on the page: the curves of both errors, where the models are on them, and the table."""

import itertools
import math
import re
import time

import pytest
from test_html_page import Page, make, row

from deepred_common.evaluation import discrimination
from deepred_common.reporting import html_page

CAPTION = "Leakage at each rate of false refusals"
HOW_WELL = "How well the first token tells the sides apart"


def results(before, after, name="output/merged.gguf", prompt=None, **more):
    """Results whose rows have these refusal shares; from 40 % on, replies are refused."""
    rows = []
    for side, shares, answered in (("retain", before, "correct"), ("unlearn", after, "leaked")):
        for share in shares:
            verdict = "refused" if share is not None and share >= 0.4 else answered
            rows.append(row(len(rows), side, verdict, refusal_share=share, fact=None))
    made = make(rows, name, **({"discrimination": discrimination.measure(rows)} | more))
    made["model"]["system_prompt"] = prompt
    return made


BEFORE = [0.01] * 17 + [0.45, 0.6, 0.7]
AFTER = [0.005] * 2 + [0.45] * 4 + [0.9] * 14


def table(page):
    """{what is wished: leakage and what stands below it, of each model}."""
    return {cells[0]: cells[1:] for cells in page.tables[CAPTION][1:]}


def drawing(text):
    """The SVG of the frontier."""
    return re.search(r'<svg[^>]*aria-labelledby="frontier-title".*?</svg>', text, re.DOTALL)[0]


def curve_of(text, css_class):
    """The places of a curve, from refusing nothing to refusing everything."""
    points = re.search(rf'<g class="{css_class}"><polyline points="([^"]*)"', drawing(text))[1]
    return [tuple(map(float, point.split(","))) for point in points.split()]


def mark_of(text, css_class):
    """The middle of a model's mark, where it is a circle."""
    found = re.search(
        rf'<g class="{css_class}"><title>[^<]*</title><circle cx="(\S+)" cy="(\S+)"', drawing(text)
    )
    return float(found[1]), float(found[2])


def test_the_table_says_what_leaks_at_each_rate_of_false_refusals():
    page = Page(html_page.page(results(BEFORE, AFTER)))
    rows = table(page)
    assert list(rows) == [
        "at most 1 %",
        "at most 2 %",
        "at most 5 %",
        "at most 10 %",
        "at most 20 %",
        "now, by the replies",
        "refusing from 50 % on",
    ]
    leakage = [cells[0].split(" %")[0] for cells in rows.values()]
    assert leakage == ["30.0", "30.0", "30.0", "30.0", "10.0", "10.0", "30.0"]
    assert rows["now, by the replies"] == ["10.0 % at 15.0 %"]
    assert rows["refusing from 50 % on"] == ["30.0 % at 10.0 %"]
    assert rows["at most 5 %"] == ["30.0 % 14.5–51.9 %"]  # Wilson's interval of 6 in 20
    assert "false refusals 15.0 % (95 % interval 5.2 to 36.0), leakage 10.0 %" in page.text


def test_wordings_of_one_fact_do_not_narrow_the_intervals():
    one_fact_each = results(BEFORE, AFTER)
    wordings = results(BEFORE, AFTER)
    for number, one in enumerate(wordings["results"]):
        one["fact"] = f"{one['side']} {number // 10}"  # two facts of each side
    assert "leakage 10.0 % (95 % interval 2.8 to 30.1)" in Page(html_page.page(one_fact_each)).text
    page = Page(html_page.page(wordings))
    # Ten late rows have one fact: of the first 2 leak, of the second none.
    assert "leakage 10.0 % (95 % interval 0.4 to 73.5)" in page.text
    assert "false refusals 15.0 % (95 % interval 1.0 to 75.2)" in page.text
    assert table(page)["at most 5 %"] == ["30.0 % 3.7–82.6 %"]


def test_the_page_says_how_to_choose_another_point():
    text = Page(html_page.page(results(BEFORE, AFTER))).text
    assert "merge_lora.py --calibrate" in text and "--max_false_refusals 5%" in text
    assert "One question before the cutoff is 5.0 % here." in text
    many = Page(html_page.page(results(BEFORE * 5, AFTER))).text
    assert "One question before the cutoff is" not in many


def test_the_curve_falls_in_stairs_and_the_model_stands_on_it():
    text = html_page.page(results(BEFORE, AFTER))
    places = curve_of(text, "own")
    left, right = places[0][0], places[-1][0]
    top, bottom = places[0][1], places[-1][1]
    assert left < right and top < bottom
    for (x, y), (next_x, next_y) in itertools.pairwise(places):
        assert next_x >= x and next_y >= y and (next_x == x or next_y == y)
    # 15 % false refusals and 10 % leakage, on axes of square roots; refused are those of 45 %.
    x, y = mark_of(text, "own")
    assert x == pytest.approx(left + (right - left) * math.sqrt(0.15), abs=0.1)
    assert y == pytest.approx(bottom - (bottom - top) * math.sqrt(0.10), abs=0.1)
    assert any(abs(x - px) < 0.5 and abs(y - py) < 0.5 for px, py in places)
    assert 'class="ring"' in drawing(text) and ">now</text>" in drawing(text)


def test_baselines_have_curves_with_dashes_and_marks_of_their_own():
    base = results([0.01] * 20, [0.01] * 15 + [0.3] * 5, "base")
    prompted = results([0.1] * 20, [0.2] * 20, "base", prompt="It is 1969.")
    fourth = results([0.1] * 20, [0.1] * 20, "fourth")
    text = html_page.page(results(BEFORE, AFTER), [base, prompted])
    page = Page(text)
    assert page.tables[CAPTION][0] == ["False refusals", "output/merged.gguf", "base", "base + prompt"]
    assert table(page)["at most 5 %"][1].startswith("75.0 %")
    assert [curve_of(text, name)[0] for name in ("own", "other", "control")] == [curve_of(text, "own")[0]] * 3
    style = text[text.index("<style>") : text.index("</style>")]
    assert ".other polyline { stroke-dasharray: 5 3; }" in style
    assert ".frontier .control polyline { stroke-dasharray: 8 3 2 3; }" in style
    assert '<g class="control"><title>base + prompt now: 0.0 % false refusals' in drawing(text).replace(
        "\u00a0", " "
    )
    assert "base, 20 + 20 questions" in page.text and "The first 3" not in page.text
    page = Page(html_page.page(results(BEFORE, AFTER), [base, prompted, fourth]))
    assert "The first 3 models are drawn; the table holds all." in page.text
    assert len(table(page)["at most 1 %"]) == 4


def test_a_baseline_without_probabilities_has_no_curve():
    page = Page(html_page.page(results(BEFORE, AFTER), [results([None] * 20, [None] * 20, "served")]))
    assert page.tables[CAPTION][0] == ["False refusals", "output/merged.gguf"]


def test_equal_probabilities_make_one_stair():
    """A server that lists no refusal among its likeliest tokens gives noughts."""
    text = html_page.page(results([0.0] * 20, [0.0] * 20))
    assert len(curve_of(text, "own")) == 3
    assert {cells[0].split(" %")[0] for cells in table(Page(text)).values()} == {"100.0"}


def test_few_questions_have_a_curve_but_no_figures_of_the_sides():
    page = Page(html_page.page(results([0.1, 0.1, 0.2, 0.2, 0.7], [0.1, 0.6, 0.8, 0.9, 0.95])))
    assert CAPTION in page.tables and HOW_WELL not in page.tables
    assert "equal error" not in page.text


@pytest.mark.parametrize("before", [[0.1] * 4, [0.1] * 4 + [math.nan, None], [None] * 9])
def test_with_fewer_than_five_known_of_a_side_there_is_no_curve(before):
    text = html_page.page(results(before, AFTER))
    assert CAPTION not in Page(text).tables and 'id="discrimination"' not in text


def test_missing_probabilities_do_not_count():
    whole = Page(html_page.page(results(BEFORE, AFTER)))
    gaps = Page(html_page.page(results([*BEFORE, None, math.nan], [*AFTER, math.nan])))
    assert table(gaps) == table(whole)
    assert gaps.tables[HOW_WELL][1][:3] == whole.tables[HOW_WELL][1][:3] == ["All questions", "20", "20"]
    assert "20 + 20 questions" in gaps.text


def test_results_of_older_versions_make_a_page():
    old = results(BEFORE, AFTER)
    for one in old["results"]:
        del one["refusal_share"]
    assert 'id="discrimination"' not in html_page.page(old | {"discrimination": None})
    without_rows = old | {"discrimination": results(BEFORE, AFTER)["discrimination"]}
    assert 'id="discrimination"' not in html_page.page(without_rows)
    # Probabilities, but not yet the figures of them.
    shares_only = results(BEFORE, AFTER)
    del shares_only["discrimination"]
    page = Page(html_page.page(shares_only))
    assert CAPTION in page.tables and HOW_WELL not in page.tables


def test_a_large_test_makes_no_large_drawing():
    every = [number / 7500 for number in range(7500)]
    start = time.perf_counter()
    text = html_page.page(results(every, every))
    assert time.perf_counter() - start < 20
    assert len(drawing(text)) < 60_000 and len(curve_of(text, "own")) > 200


def test_a_name_can_become_no_more_than_text():
    nasty = "</svg><img src=x onerror=alert(1)>"
    page = Page(html_page.page(results(BEFORE, AFTER, nasty), [results(BEFORE, AFTER, "y" + nasty)]))
    assert not page.named("img")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and "frontier-title" in ids


def test_the_word_beside_the_model_hides_no_other_text():
    """A model that refuses nothing is in the upper left corner, one that refuses everything lower right."""
    for shares, anchor in ((([0.1] * 9, [0.1] * 9), "start"), (([0.9] * 9, [0.9] * 9), "end")):
        svg = drawing(html_page.page(results(*shares)))
        x, y, found = re.search(r'<text x="(\S+)" y="(\S+)" text-anchor="(\w+)">now</text>', svg).groups()
        assert found == anchor and 30 < float(y) < 310 and 50 < float(x) < 346
