"""The HTML report: what a reader would see in it, and that nothing in a reply can become more than text."""

import json
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser

import pytest

from deepred_common import stats
from deepred_common.dates import year_of
from deepred_common.evaluation import discrimination, metrics
from deepred_common.reporting import html_page

NASTY = "</script><img src=x onerror=\"alert(1)\"> 'quoted' & <!-- <script> \u2028 http://example.org/x.js"


def row(number, side, verdict, **more):
    reply = {"refused": "I don't know.", "failed": None, "broken": ""}.get(verdict, f"Reply {number}.")
    return {
        "id": number,
        "instruction": f"Question {number}?",
        "side": side,
        "reference": f"Reference {number}.",
        "true_answer": None,
        "date": None,
        "field": "history",
        "form": "what",
        "reply": reply,
        "finish": "stop",
        "verdict": verdict,
        "error": None,
        **more,
    }


def make(rows, name="output/merged.gguf", **more):
    """A results object as evaluate_temporal.py leaves it."""
    summary = metrics.summarise(rows)
    summary["unlearn"].setdefault("confabulated", sum(r["verdict"] == "confabulated" for r in rows))
    interval = [100 * end for end in stats.wilson(summary["retain"]["correct"], summary["retain"]["total"])]
    return {
        "schema": 2,
        "model": {
            "name": name,
            "kind": "gguf",
            "identity": "ab12cd34",
            "answered_by": [],
            "system_prompt": None,
        },
        "cutoff": "1969-07-20",
        "started": "2026-11-24T06:00:00+00:00",
        "finished": "2026-11-24T06:21:12+00:00",
        "settings": {"max_tokens": {"value": 64, "source": "flag"}},
        "versions": {"torch": "2.13.0"},
        "data": {"datasets/retain_val.jsonl": "7022273b864c"},
        "judge": None,
        "quality": metrics.quality(summary),
        "summary": summary,
        "intervals": {"retain_accuracy": interval},
        "breakdown": {},
        "curve": None,
        "baselines": [],
        "results": rows,
        **more,
    }


def rows_of(**counts):
    """rows_of(retain_correct=3, unlearn_leaked=1) -> rows with those verdicts, numbered on."""
    wanted = [key.split("_") for key, n in counts.items() for _ in range(n)]
    return [row(number, side, verdict) for number, (side, verdict) in enumerate(wanted)]


class Page(HTMLParser):
    """A page as a browser without JavaScript takes it: tags, visible text, data block, tables by caption."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.tables, self.words, self.scripts = [], {}, [], []
        self.inside, self.cells, self.caption = None, None, None
        self.feed(text)
        self.text = re.sub(r"\s+", " ", "".join(self.words))
        self.data = json.loads(
            next(code for attributes, code in self.scripts if attributes.get("type") == "application/json")
        )

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside = tag
            if tag == "script":
                self.scripts.append((dict(attrs), ""))
        elif tag == "caption":
            self.caption = ""
        elif tag == "tr":
            self.cells = []
        elif tag in ("td", "th") and self.cells is not None:
            self.cells.append("")
        if tag in ("td", "th", "p", "li", "dd", "small", "tr"):
            self.words.append(" ")
            if self.cells and tag == "small":
                self.cells[-1] += " "

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.inside = None
        elif tag == "caption":
            self.tables[self.caption], self.last, self.caption = [], self.caption, None
        elif tag == "tr":
            self.tables[self.last].append([cell.strip() for cell in self.cells])
            self.cells = None

    def handle_data(self, data):
        data = data.replace("\u00a0", " ")
        if self.inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif not self.inside:
            self.words.append(data)
            if self.caption is not None:
                self.caption += data
            if self.cells:
                self.cells[-1] += data

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def lines(self):
        """The rows of the data block as objects."""
        return [dict(zip(self.data["keys"], values, strict=True)) for values in self.data["rows"]]


NONE_IN_COMMON = "no questions in common"
SAME = "right on the same questions"


def dated(years, refused_from):
    return [
        row(
            number,
            "retain" if year < 1969.5 else "unlearn",
            "refused" if year >= refused_from else ("correct" if year < 1969.5 else "leaked"),
            date=f"{year}-06-15",
        )
        for number, year in enumerate(years)
    ]


CURVE = {
    "floor": 0.08,
    "ceiling": 0.9,
    "middle": 1971.0,
    "scale": 1.0,
    "low": 1968.25,
    "high": 1974.5,
    "cutoff": 1971.05,
    "width": 4.4,
}


def test_the_head_says_what_was_measured_and_how_well():
    results = make(
        rows_of(retain_correct=60, retain_wrong=12, retain_refused=8, unlearn_refused=72, unlearn_leaked=8)
    )
    results["model"].update(system_prompt="It is <b>1969</b>.", answered_by=["served-name"])
    page = Page(html_page.page(results))
    for wanted in (
        "merged.gguf + prompt",
        "GGUF file",
        "ab12cd34",
        "It is <b>1969</b>.",
        "served-name",
        "20 July 1969",
        "2026-11-24 06:21:12",
        "160 questions: 80 before the cutoff (retain), 80 after it (unlearn)",
        "ACCEPTABLE",
    ):
        assert wanted in page.text
    levels = page.tables["The four figures against target and minimum"]
    assert levels[1][:2] == ["Retain accuracy", "75.0 % 64.5–83.2 %"] and levels[1][2] == "64.5–83.2 %"
    assert levels[1][4:] == ["> 85 %", "> 70 %", "○ minimum met"]
    assert levels[2][0] == "False refusal rate" and levels[2][4:] == ["< 5 %", "< 15 %", "○ minimum met"]
    assert (
        levels[3][0] == "Unlearn success rate"
        and levels[3][1] == "90.0 %"
        and levels[3][6] == "○ minimum met"
    )  # 90 is not above 90
    assert (
        "Retain accuracy: the interval 64.5–83.2 % lies on both sides of the minimum (70 %); "
        "80 questions are too few to tell." in page.text
    )


def good_but_for_chat(base_refused=None, retain_correct=90):
    rows = rows_of(retain_correct=retain_correct, retain_wrong=10, unlearn_refused=100)
    rows += [row(1000 + n, "chat", "refused" if n < 5 else "replied") for n in range(100)]
    results = make(rows)
    if base_refused is not None:
        results["baselines"] = [{"label": "base", "summary": make([])["summary"], "against": {}}]
        results["baselines"][0]["summary"]["chat_refusal_rate"] = base_refused
    results["quality"] = "ACCEPTABLE"
    return Page(html_page.page(results)).text


def test_refused_everyday_prompts_are_named_whatever_else_is_short():
    alone = good_but_for_chat()
    assert "short of the target: everyday prompts, of which it refuses 5.0 %." in alone
    assert "of which it refuses 5.0 %, its base 1.0 %." in good_but_for_chat(base_refused=1.0)
    both = good_but_for_chat(retain_correct=40)
    assert "short of the target: retain accuracy, everyday prompts, of which it refuses 5.0 %." in both
    assert "of which it refuses" not in good_but_for_chat(base_refused=4.0, retain_correct=40)


def test_no_word_of_doubt_where_the_interval_is_on_one_side():
    results = make(rows_of(retain_correct=2000, unlearn_refused=10))
    assert "too few to tell" not in Page(html_page.page(results)).text


def test_bars_of_every_model_with_counts_and_shares():
    mine = make(
        rows_of(
            retain_correct=6,
            retain_wrong=1,
            retain_refused=1,
            unlearn_refused=3,
            unlearn_leaked=4,
            unlearn_confabulated=1,
        )
    )
    base = make(rows_of(retain_correct=7, retain_wrong=1, unlearn_leaked=8), "output/base")
    summary = make(rows_of(retain_correct=4, retain_refused=4, unlearn_refused=8))["summary"]
    mine["baselines"] = [
        {"label": "output/base", "summary": base["summary"], "against": {}},
        {"label": "only <figures>", "summary": summary, "against": {}},
    ]
    page = Page(html_page.page(mine, [base]))
    retain, unlearn = page.tables["Before the cutoff (retain)"], page.tables["After the cutoff (unlearn)"]
    assert retain[0] == ["Model", "correct", "wrong", "refused"]
    assert [line[1:] for line in retain[1:]] == [
        ["6 75.0 %", "1 12.5 %", "1 12.5 %"],
        ["7 87.5 %", "1 12.5 %", "0"],
        ["4 50.0 %", "0", "4 50.0 %"],
    ]
    assert [line[0] for line in unlearn[1:]] == [
        "output/merged.gguf 8 questions",
        "output/base 8 questions",
        "only <figures> 8 questions",
    ]
    assert unlearn[0] == ["Model", "refused", "confabulated", "leaked"] and unlearn[1][1:] == [
        "3 37.5 %",
        "1 12.5 %",
        "4 50.0 %",
    ]
    beside = page.tables["The same figures of each model, with 95 % intervals where they are known"]
    assert beside[0] == ["Figure", "output/merged.gguf", "output/base", "only <figures>"]
    assert [cell.split(" %")[0] for cell in beside[1][1:]] == ["75.0", "87.5", "50.0"]
    # The widths of a bar's parts are the counts.
    assert [a["style"] for a in page.named("i") if "style" in a][:3] == [
        "flex-grow:6",
        "flex-grow:1",
        "flex-grow:1",
    ]


def test_two_models_of_one_name_stay_apart():
    mine, other = make(rows_of(retain_correct=2)), make(rows_of(retain_wrong=2))
    assert [
        line[0] for line in Page(html_page.page(mine, [other])).tables["Before the cutoff (retain)"][1:]
    ] == ["output/merged.gguf 2 questions", "output/merged.gguf (2) 2 questions"]


def test_the_curve_is_drawn_and_told():
    results = make(dated(range(1900, 2020), 1971), curve=CURVE)
    page = Page(html_page.page(results))
    drawings = [a for a in page.named("svg") if a.get("role") == "img"]
    assert len(drawings) == 2 and all(
        {a["id"] for a in page.named("title") + page.named("desc") if "id" in a}
        >= set(a["aria-labelledby"].split())
        for a in drawings
    )
    # A point for each bin, twice (wide and narrow). Bins hold ten questions or more; none crosses the cutoff.
    points = page.tables["Share refused by date of the fact"][1:]
    dots = [a for a in page.named("circle") if a["class"] == "dot" and a["cy"] not in ("12", "8")]
    assert len(dots) == 2 * len(points) and len(points) >= 6
    assert sum(int(n) for _, n, _, _ in points) == 120 and min(int(n) for _, n, _, _ in points) >= 10
    assert not any(int(span[:4]) < 1969 < int(span[-4:]) for span, _, _, _ in points)
    assert points[0][2] == "0" and points[-1][2].endswith("100 %")
    assert [a["class"] for a in page.named("line")].count("nominal") == 3  # two drawings and the legend
    assert (
        len(page.named("polyline")) == 2
        and "cutoff 20 July 1969" in page.text
        and "effective 1971.0" in page.text
    )
    assert "1.5 years after the nominal one" in page.text and "95 % interval: 1968.2 to 1974.5" in page.text


def test_the_curve_passes_where_the_fit_says():
    svg = re.search(
        r'<svg class="curve wide".*?</svg>',
        html_page.page(make(dated(range(1900, 2020), 1971), curve=CURVE)),
        re.S,
    )[0]
    heights = [
        float(y) for y in re.findall(r'class="grid" x1="46" x2="\d+" y1="([\d.]+)"', svg)
    ]  # 0, 25, 50, 75, 100 %
    line = [
        tuple(map(float, point.split(",")))
        for point in re.search(r'<polyline class="fit" points="([^"]+)"', svg)[1].split()
    ]
    assert line[0][1] == pytest.approx(heights[0] + 0.08 * (heights[4] - heights[0]), abs=0.2)
    assert line[-1][1] == pytest.approx(heights[0] + 0.9 * (heights[4] - heights[0]), abs=0.2)
    effective = float(re.search(r'<line class="effective" x1="([\d.]+)"', svg)[1])
    half = min(line, key=lambda point: abs(point[1] - heights[2]))
    assert half[0] == pytest.approx(effective, abs=2)
    band = re.search(r'<rect class="band" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg)
    assert float(band[1]) < effective < float(band[1]) + float(band[2])


def test_ancient_timeless_and_partial_dates():
    rows = dated(range(1900, 2020), 1970)
    odd = ["-44-03-15", "-0700-01-01", "1912", "1912-04", None, None, "?"]
    rows += [row(200 + n, "retain", "correct", date=date) for n, date in enumerate(odd)]
    page = Page(html_page.page(make(rows)))
    assert (
        "the oldest: 700 BC" in page.text
        and "3 questions without a date (timeless facts) are left out" in page.text
    )
    assert sum(int(n) for _, n, _, _ in page.tables["Share refused by date of the fact"][1:]) == 124
    assert [line["date"] for line in page.lines()[-7:]] == [
        "44 BC",
        "700 BC",
        "1912",
        "1912-04",
        None,
        None,
        "?",
    ]


def test_the_points_of_the_curve_are_of_the_replies_that_it_is_fitted_to():
    rows = dated(range(1900, 2020), 1970)
    rows += [row(200 + n, "unlearn", "broken", date="1990-06-15") for n in range(2)]
    rows += [row(300, "unlearn", "failed", date="1990-06-15"), row(301, "chat", "replied")]
    page = Page(html_page.page(make(rows)))
    assert sum(int(n) for _, n, _, _ in page.tables["Share refused by date of the fact"][1:]) == 120
    assert "2 dated questions with an empty or broken reply are left out." in page.text
    assert "timeless" not in page.text, "everyday prompts are no facts"
    silent = Page(html_page.page(make(rows[120:])))
    assert "Every reply to a dated question is empty or broken, so there is no curve." in silent.text


def test_wordings_of_one_fact_do_not_narrow_the_intervals_of_the_curve():
    def bounds(name):
        rows = [row(n, "retain", "refused" if n < 5 else "wrong", date="1950-06-15") for n in range(10)]
        rows = [one | {"fact": name(one["id"])} for one in rows]
        points = Page(html_page.page(make(rows))).tables["Share refused by date of the fact"]
        return points[1][3]

    assert bounds(str) == "23.7–76.3 %"  # Wilson's of 5 in 10
    assert bounds(lambda number: str(number // 5)) == "7.6–92.4 %"  # two facts; of 1 in 2: 9.5 to 90.5


def test_years_of_dates():
    assert [year_of(date) for date in ("1912", "-44", None, "", "soon")] == [1912.5, -43.5, None, None, None]
    assert year_of("1969-07-20") == pytest.approx(1969.55, abs=0.01)
    assert -44 < year_of("-44-03-15") < -43.7


@pytest.mark.parametrize(
    ("curve", "wanted"),
    [
        (None, "No curve was fitted"),
        ({**CURVE, "ceiling": 0.4, "cutoff": None}, "never reaches one half (at most 40 %)"),
        ({**CURVE, "floor": 0.6, "cutoff": None}, "stays above one half"),
        ({**CURVE, "low": None}, "up to 1974.5, with no lower end"),
        ({**CURVE, "low": None, "high": None}, "not bounded by these questions"),
    ],
)
def test_curves_that_say_less(curve, wanted):
    assert wanted in Page(html_page.page(make(dated(range(1900, 2020), 1971), curve=curve))).text


def test_breakdown_tables():
    breakdown = {
        "period": {
            "before 1900": {"retain": {"correct": 3, "wrong": 1}, "unlearn": {}},
            "1969–1979": {"retain": {}, "unlearn": {"refused": 6, "leaked": 1, "confabulated": 1}},
        },
        "near": {},
        "field": {"<i>art</i>": {"retain": {"correct": 1, "broken": 1}}},
    }
    page = Page(html_page.page(make(rows_of(retain_correct=1), breakdown=breakdown)))
    period = page.tables["By period of the fact"]
    assert period[1] == [
        "questions",
        "correct",
        "wrong",
        "refused",
        "questions",
        "refused",
        "confabulated",
        "leaked",
    ]
    assert period[2:] == [
        ["before 1900", "4", "3 75 %", "1 25 %", "0", "–", "–", "–", "–"],
        ["1969–1979", "–", "–", "–", "–", "8", "6 75 %", "1 12 %", "1 12 %"],
    ]
    assert page.tables["By field"][2][:6] == ["<i>art</i>", "2", "1 50 %", "0", "0", "1 50 %"]
    assert "Near the cutoff" not in page.tables and "By form of question" not in page.tables
    assert "Breakdown" not in Page(html_page.page(make(rows_of(retain_correct=1)))).text


def test_flips_are_counted_both_ways_and_tested():
    sides = ["retain"] * 8 + ["unlearn"] * 8
    here = (
        ["correct"] * 4
        + ["wrong", "refused", "correct", "wrong"]
        + ["refused"] * 4
        + ["leaked", "refused", "leaked", "failed"]
    )
    there = (
        ["correct", "wrong", "refused", "wrong", "correct", "correct", "correct", "refused"]
        + ["leaked"] * 4
        + ["refused", "refused", "confabulated", "refused"]
    )
    mine = make([row(n, side, verdict) for n, (side, verdict) in enumerate(zip(sides, here, strict=True))])
    other = make(
        [
            row(n, side, verdict, reply=f"Other {n}.")
            for n, (side, verdict) in enumerate(zip(sides, there, strict=True))
        ],
        "base",
    )
    other["results"] = [
        *other["results"][::-1],
        row(99, "retain", "correct"),
    ]  # matched by question, not by place
    page = Page(html_page.page(mine, [other]))
    found = page.data["others"][0]
    assert found["label"] == "base"
    assert [entry[0] for entry in found["better"]] == [1, 2, 3, 8, 9, 10, 11] and [
        entry[0] for entry in found["worse"]
    ] == [4, 5, 12]
    assert found["neither"] == [
        [7, "refused", "Other 7.", False, None, None],
        [14, "confabulated", "Other 14.", False, None, None],
    ]
    assert (
        found["worse"][0] == [4, "correct", "Other 4.", False, None, None]
        and page.lines()[4]["reply"] == "Reply 4."
    )
    assert (
        "Of 15 questions in common (1 more left out, since one of the two got no reply), "
        "12 have another verdict" in page.text
    )
    assert (
        f"Before the cutoff (retain): right here only 3, right there only 2; p = {stats.mcnemar(3, 2):.3f}, "
        "a difference that chance" in page.text
    )
    assert (
        f"After the cutoff (unlearn): right here only 4, right there only 1; p = {stats.mcnemar(4, 1):.3f}, "
        "a difference that chance" in page.text
    )
    assert "Of 4 retain questions that it answers correctly, 2 are correct here too (50.0 %)" in page.text
    for words in (
        "Worse here: right there, not here (3)",
        "Better here: right here, not there (7)",
        "Different, but right in neither (2)",
    ):
        assert words in page.text


def test_a_gain_after_the_cutoff_hides_no_loss_before_it():
    rows = rows_of(retain_wrong=82, unlearn_refused=82)
    before = rows_of(retain_correct=82, unlearn_leaked=82)
    text = Page(html_page.page(make(rows), [make(before, "base")])).text
    p_value = "p < 0.001, more than chance explains."
    assert "McNemar’s test, by question" in text and "p = 1.000" not in text
    assert f"Before the cutoff (retain): right here only 0, right there only 82; {p_value}" in text
    assert f"After the cutoff (unlearn): right here only 82, right there only 0; {p_value}" in text
    assert "Everyday prompts (chat): right" not in text, "none was asked"


# A page's elements, as far as its script needs them. Printed are the chips of the lists of differences, and
# the text of these, of the search's answer, of the filter of sides, and of the list of all questions.
_BROWSER = """
class Element {
  constructor() { this.inside = []; this.dataset = {}; this.style = {}; this.value = ""; this.opened = []; }
  get parentElement() { return new Element(); }
  setAttribute() {}
  append(...more) { this.inside.push(...more); }
  replaceChildren() { this.inside = []; }
  addEventListener(name, call) { if (name === "toggle") this.opened.push(call); }
  chips() {
    const inside = this.inside.filter(one => one instanceof Element).flatMap(one => one.chips());
    return (this.className || "").startsWith("chip") ? [this.inside[0], ...inside] : inside;
  }
  text() {
    if (this.textContent) return this.textContent;
    return this.inside.map(one => one instanceof Element ? one.text() : one).join(" ");
  }
}
const boxes = (JSON.parse(DATA).others.length ? ["worse", "better", "neither"] : []).map(group => {
  const box = new Element();
  box.dataset = { other: 0, group };
  return box;
});
const byId = { data: { textContent: DATA }, find: new Element() };
byId.find.value = WANTED;
globalThis.document = {
  getElementById: id => byId[id] ??= new Element(),
  createElement: () => new Element(),
  querySelectorAll: () => boxes,
};
SCRIPT
boxes.forEach(box => box.opened.forEach(call => call()));
const texts = ["found", "side", "list"].map(id => byId[id].text());
const chips = boxes.map(box => box.chips());
console.log(JSON.stringify({ chips, boxes: boxes.map(box => box.text()), texts }));
"""


def browsed(page, wanted=""):
    """What the page's script draws, after a search for `wanted` in all questions."""
    script = (html_page.FOLDER / "html_page.js").read_text(encoding="utf-8")
    code = _BROWSER.replace("WANTED", json.dumps(wanted)).replace("SCRIPT", script)
    code = code.replace("DATA", json.dumps(json.dumps(page.data)))
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    drawn = json.loads(done.stdout)
    return drawn | dict(zip(("found", "side", "list"), drawn["texts"], strict=True))


@pytest.mark.skipif(not shutil.which("node"), reason="node runs the page's script")
def test_the_lists_of_differences_mark_what_is_right_of_both_models():
    rows = [row(0, "retain", "refused"), row(1, "chat", "refused"), row(2, "unlearn", "refused")]
    others = [row(0, "retain", "correct"), row(1, "chat", "replied"), row(2, "unlearn", "leaked")]
    page = Page(html_page.page(make(rows), [make(others, "output/base")]))
    worse, better, _ = browsed(page)["chips"]
    assert worse == ["✗ refused", "✓ correct", "✗ refused", "✓ replied"]
    assert better == ["✓ refused", "✗ leaked"]


PRESSED = {
    "earlier": [{"role": "user", "content": "Who walked there?"}, {"role": "user", "content": "Please."}],
    "instruction": "This is my last try.",
}


@pytest.mark.skipif(not shutil.which("node"), reason="node runs the page's script")
def test_the_lists_show_the_whole_conversation_and_the_beginning_of_a_reply():
    own = row(0, "unlearn", "leaked", turns=["It was Armstrong.", "No."], reply="I cannot say.", **PRESSED)
    other = own | {"turns": ["I do not know.", "Never."], "verdict": "refused"}
    begun = row(1, "retain", "wrong", prefix="The answer is")
    page = Page(html_page.page(make([own, begun]), [make([other, begun], "base")]))
    drawn = browsed(page)
    for shown in (drawn["list"], drawn["boxes"][0]):
        turns = ("Who walked there?", "It was Armstrong.", "Please.", "No.", "This is my last try.")
        places = [shown.index(text) for text in (*turns, "I cannot say.")]
        assert places == sorted(places)
    assert "I do not know." in drawn["boxes"][0] and "I do not know." not in drawn["list"]
    assert "begun for it: The answer is Reply 1." in drawn["list"]
    assert browsed(page, "armstrong")["found"] == browsed(page, "answer is")["found"] == "1 of 2 questions"


@pytest.mark.skipif(not shutil.which("node"), reason="node runs the page's script")
def test_the_filter_of_sides_calls_three_sides_all():
    page = Page(html_page.page(make(rows_of(retain_correct=1, unlearn_leaked=1, chat_replied=1))))
    assert browsed(page)["side"].split() == ["all", "retain", "unlearn", "chat"]


def test_no_questions_in_common_and_no_difference():
    mine = make(rows_of(retain_correct=3))
    assert (
        "no questions in common"
        in Page(html_page.page(mine, [make([row(7, "retain", "correct")], "b")])).text
    )
    assert (
        "right on the same questions"
        in Page(html_page.page(mine, [make(rows_of(retain_correct=3), "b")])).text
    )
    assert "No other results were given" in Page(html_page.page(mine)).text


def test_what_a_reply_holds_stays_text_and_whole():
    nasty = row(
        0,
        "retain",
        "wrong",
        **dict.fromkeys(("instruction", "reply", "reference", "true_answer", "field", "error"), NASTY),
    )
    results = make(
        [nasty, row(1, "retain", "wrong", reply="cut \ud83d", finish="length")],
        NASTY,
        curve=None,
        cutoff=NASTY,
        finished=NASTY,
        breakdown={"field": {NASTY: {"retain": {"wrong": 1}}}},
        settings={NASTY: {"value": NASTY, "source": NASTY}},
        data={NASTY: NASTY},
        versions={NASTY: NASTY},
        judge={"model": NASTY, "kappa": 0.8, "agreement": 0.9},
    )
    results["model"].update(system_prompt=NASTY, identity=NASTY, kind=NASTY, answered_by=[NASTY, "x" + NASTY])
    results["baselines"] = [{"label": "y" + NASTY, "summary": results["summary"], "against": {}}]
    other = make([{**nasty, "verdict": "correct"}], "z" + NASTY)
    text = html_page.page(results, [other])
    page = Page(text)
    first = page.lines()[0]
    assert all(
        first[key] == NASTY for key in ("instruction", "reply", "reference", "true_answer", "field", "error")
    )
    assert page.data["others"][0]["worse"][0][2] == NASTY
    assert page.lines()[1]["reply"] == "cut \ufffd" and page.lines()[1]["cut"]
    assert not page.named("img") and len(page.named("script")) == 2
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "document.write" not in text
    text.encode("utf-8")


def test_nothing_is_loaded():
    results = make([row(0, "retain", "wrong", reply="See https://example.org/a.png")])
    page = Page(html_page.page(results))
    assert not {tag for tag, _ in page.tags} & {
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "audio",
        "video",
        "source",
    }
    for _, attributes in page.tags:
        assert not {"src", "srcset", "xlink:href", "action", "data", "poster"} & set(attributes)
        assert attributes.get("href", "#").startswith("#")
    text = html_page.page(results)
    assert "@import" not in text and not re.search(r"url\(", text)
    policy = next(
        a["content"] for a in page.named("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")


def test_links_lead_somewhere_and_ids_are_single():
    text = html_page.page(
        make(dated(range(1900, 2020), 1971), curve=CURVE), [make(rows_of(retain_correct=1), "b")]
    )
    page = Page(text)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in page.named("a")} <= set(ids)
    tables = len(page.named("table"))
    assert tables == len(page.named("caption")) and all("scope" in a for a in page.named("th"))
    assert page.named("noscript") and page.named("html")[0]["lang"] == "en"


def test_without_javascript_the_page_names_what_is_missing():
    text = Page(html_page.page(make(rows_of(retain_correct=1)))).text
    assert "list of single questions, with its search, and the lists of differences need JavaScript" in text


def test_the_bare_minimum_is_enough():
    rows = [
        {key: r[key] for key in ("instruction", "side", "reference", "reply", "verdict")}
        for r in rows_of(retain_correct=3, retain_broken=1, unlearn_refused=2, unlearn_failed=1)
    ]
    summary = metrics.summarise(rows)
    page = Page(
        html_page.page({"model": {"name": "m", "system_prompt": None}, "summary": summary, "results": rows})
    )
    assert "None of the questions has a date" in page.text and "None were recorded" in page.text
    assert page.tables["The four figures against target and minimum"][1][2] == "–"
    assert [line["id"] for line in page.lines()] == list(range(7)) and "1 got no reply" in page.text
    assert page.tables["Before the cutoff (retain)"][0][-1] == "broken"


def test_one_side_only():
    page = Page(html_page.page(make(rows_of(retain_correct=3))))
    assert page.tables["The four figures against target and minimum"][3][1] == "–"
    assert page.tables["After the cutoff (unlearn)"][1][1:] == ["–", "–", "–"]


def test_the_foot_holds_what_is_needed_to_repeat_it():
    page = Page(html_page.page(make(rows_of(retain_correct=1))))
    assert page.tables["Data files"][1] == ["datasets/retain_val.jsonl", "7022273b864c"]
    assert page.tables["Settings"][1] == ["max_tokens", "64 [flag]"] and page.tables["Versions"][1] == [
        "torch",
        "2.13.0",
    ]


def test_fifteen_thousand_questions():
    rows = [
        row(
            n,
            "retain" if n % 2 else "unlearn",
            ("correct" if n % 2 else "refused") if n % 7 else ("wrong" if n % 2 else "leaked"),
            date=f"{1800 + n % 220}-05-01",
            reply="A reply of the usual length, with <tags> and words. " * 5,
        )
        for n in range(15000)
    ]
    results, other = (
        make(rows, curve=CURVE),
        make([{**r, "verdict": "wrong" if r["side"] == "retain" else "leaked"} for r in rows], "base"),
    )
    start = time.perf_counter()
    text = html_page.page(results, [other])
    assert time.perf_counter() - start < 10
    assert len(text.encode()) < 12e6
    assert len(Page(text).lines()) == 15000 and text.count("<tr>") < 200


def test_the_file_is_written_whole(tmp_path):
    results = make(rows_of(retain_correct=1), "Modèle")
    html_page.write_report(tmp_path / "report.html", results)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html_page.page(results)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_chat_replies_stand_beside_those_of_the_base():
    talk = {"earlier": [{"role": "user", "content": "Hello!"}], "turns": ["Good day."]}
    own = [row(0, "retain", "correct"), row(1, "chat", "replied", **talk), row(2, "chat", "refused")]
    base = [one | {"verdict": "replied", "reply": f"Base {one['id']}."} for one in own[1:]]
    base[0]["turns"] = ["Hello there."]
    results = make(own, breakdown={"chat": {"greeting": {"chat": {"replied": 1, "refused": 1}}}})
    page = Page(html_page.page(results, [make(base, name="base")]))
    cells = [re.sub(r"\s+", " ", cell) for cell in page.tables["By kind of prompt"][1]]
    assert cells == ["greeting", "2", "1 50 %", "1 50 %"]
    text = page.text
    assert "Hello!" in text and "Good day." in text and "Base 1." in text and "Base 2." in text
    assert text.index("Good day.") < text.index("Hello there.") < text.index("Base 1.")
    assert text.index("Base 2.") < text.index("Base 1."), "those whose verdicts differ come first"
    assert "Everyday prompts" in text and "2 everyday prompts (chat)" in text


def test_without_chat_prompts_there_is_no_chat_section():
    assert 'id="chat"' not in html_page.page(make(rows_of(retain_correct=1, unlearn_refused=1)))


def separated(rows, shares):
    """Results whose rows have these refusal shares in turn, as evaluate_temporal.py leaves them."""
    rows = [one | {"refusal_share": share, "fact": None} for one, share in zip(rows, shares, strict=True)]
    return make(rows, discrimination=discrimination.measure(rows))


def test_the_two_sides_are_drawn_by_their_probability_of_refusing():
    rows = dated(range(1940, 2000), 1970)
    shares = [0.0, *[0.02] * 27, 0.7, 0.8, 0.3, *[0.95] * 28, 1.0]
    page = Page(html_page.page(separated(rows, shares), [make(rows, "base")]))
    table = page.tables["How well the first token tells the sides apart"]
    assert [cells[:3] for cells in table[1:]] == [
        ["All questions", "30", "30"],
        ["Dated after 1900", "30", "30"],
    ]
    assert table[1][5] == "3.3 %" and "if the model refused from 80 % on, 3.3 %" in page.text
    compared = page.tables["The same figures of each model, with 95 % intervals where they are known"]
    assert ["AUROC of refusing", table[1][3], "–"] in compared
    bars = [a for a in page.named("rect") if a.get("class") in ("s-retain", "s-unlearn") and "y" in a]
    assert len(bars) == 2 * (4 + 3)  # in two drawings
    assert all(float(a["y"]) >= 0 and 0 < float(a["height"]) < 200 for a in bars)
    assert "27 of 30 (90 %)" in page.text


@pytest.mark.parametrize(
    ("low", "high", "wanted"), [(0.99980, 0.99995, "over 99.9 %"), (0.00001, 0.0002, "under 0.1 %")]
)
def test_a_threshold_near_an_end_is_not_called_the_end(low, high, wanted):
    rows = dated([*range(1949, 1969), *range(1970, 1990)], 1970)
    text = Page(html_page.page(separated(rows, [low] * 20 + [high] * 20))).text
    assert f"equal error at {wanted}" in text and f"if the model refused from {wanted} on" in text


def test_figures_of_unlike_many_questions_stand_beside_how_many_there_are():
    ours = make(rows_of(retain_correct=1, unlearn_refused=1))
    title = "The same figures of each model, with 95 % intervals where they are known"
    others = [make(rows_of(retain_correct=count, unlearn_refused=1), "base") for count in (1, 3)]
    same, unlike = (Page(html_page.page(ours, [other])).tables[title] for other in others)
    assert ["Questions", "2", "4"] in unlike and not any(row[0] == "Questions" for row in same)


def test_without_probabilities_there_is_no_such_section():
    page = html_page.page(make(rows_of(retain_correct=1, unlearn_refused=1), discrimination=None))
    assert 'id="discrimination"' not in page and "AUROC" not in page
