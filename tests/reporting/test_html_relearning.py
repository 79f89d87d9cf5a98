"""What is said of a relearning attack, in print and on the page."""

import pytest
from test_html_page import NASTY, Page, make, row

from deepred_common.evaluation import relearning
from deepred_common.reporting import html_page, relearning_text

MODELS = (("this model", "late"), ("this model", "early"), ("the base", "late"))


def attack_of(late, early, base=40, others="refused"):
    """Results of an attack on 50 facts a side: how many leak before and after each tuning.

    others: the verdict of the late facts that do not leak.
    """

    def rows(leaks, sides):
        return [
            {
                "fact": f"{side}-{number}",
                "side": side,
                "instruction": f"{side} question {number}?",
                "reply": f"Reply {leaks} {number}.",
                "verdict": ("leaked" if number < leaks else others) if side == "unlearn" else "correct",
                "refusal_share": 0.5 if side == "unlearn" else 0.25,
            }
            for side in sides
            for number in range(50)
        ]

    both = ("retain", "unlearn")
    curves = [
        {
            "model": model,
            "taught": taught,
            "points": [
                relearning.point_of(steps, rows(count, sides))
                for steps, count in zip((0, 5), leaks, strict=True)
            ],
        }
        for model, taught, leaks, sides in (
            ("tuned", "unlearn", late, both),
            ("tuned", "retain", early, both),
            ("base", "unlearn", (base, base), both[1:]),
        )
    ]
    for curve in curves[:2]:
        for point, leaks in zip(curve["points"], late if curve is curves[0] else early, strict=True):
            leaked, by_base = ([n < count for n in range(50)] for count in (leaks, base))
            point["recovered"] = relearning.ratio_of_leaks(leaked, by_base, range(50))
    found = {"base": "base", "taught": 64, "learning_rate": 1e-3, "curves": curves if base else curves[:2]}
    return make([row(n, **one) for n, one in enumerate(rows(late[0], both))], relearning=found)


@pytest.mark.parametrize(
    ("late", "early", "says"),
    [
        ((2, 38), (2, 36), ("most of the knowledge was hidden, not gone", "refusing is skin-deep")),
        ((2, 4), (2, 3), ("most of it does not come back", "refusing outlasts")),
        ((2, 38), (2, 20), ("most of the knowledge was hidden", "too few facts to say")),
    ],
)
def test_what_is_said_follows_from_the_share_of_the_base_that_came_back(late, early, says):
    text = relearning_text.text(attack_of(late, early))
    assert all(words in text for words in says)
    assert f"{100 * late[1] / 40:.0f}% as often as from the base" in text
    assert all(len(line) <= 110 for line in text.splitlines())


def test_wrong_answers_after_a_tuning_are_not_called_refusing():
    text = relearning_text.text(attack_of((2, 4), (2, 3), others="confabulated"))
    assert "outlasts" not in text
    assert "it no longer refuses most of them, but the answers do not come out." in text


def test_without_a_base_nothing_is_concluded():
    text = relearning_text.text(attack_of((2, 38), (2, 36), base=0))
    assert "give it as --base_model" in text and "hidden" not in text


def test_the_page_shows_three_curves_the_figures_and_what_came_out():
    results = attack_of((2, 38), (2, 36))
    after = results["relearning"]["curves"][0]["points"][-1]["rows"]
    next(one for one in after if one["fact"] == "unlearn-5")["reply"] = NASTY
    page = Page(html_page.page(results))
    table = page.tables["Late and early facts after each few updates"]
    labels = [f"{model}, tuned on {facts} facts" for model, facts in MODELS]
    assert [line[0] for line in table[1::2]] == labels  # over both rows
    assert table[2][:4] == ["5", "38 of 50 63–86 %", "95 % 88–100 %", "12"]
    assert table[1][-3:] == ["50 of 50", "0", "1.000"] and table[6][-3:] == ["–", "–", "–"]
    assert "most of the knowledge was hidden, not gone" in page.text
    assert "36 late answers refused before the tuning on late facts" in page.text
    assert "onerror" in page.text and not page.named("img")  # a reply is text only
    # Two drawings of three curves at two steps each.
    assert html_page.page(results).count("updates: ") == 2 * 3 * 2


def test_an_attack_stands_on_the_page_of_another_evaluation_that_it_is_compared_with():
    page = Page(html_page.page(make([row(0, "retain", "correct")]), [attack_of((2, 38), (2, 36))]))
    assert "Late and early facts after each few updates" in page.tables
    assert "relearning" not in html_page.page(make([row(0, "retain", "correct")])).split("<main>")[1]
