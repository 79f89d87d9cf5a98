"""The data of each section of the report, as its template reads them. html_curve has those of the curve.

A function here takes the Report and returns a dict, or None where there is nothing to show. Results of other
programs or versions may lack optional parts, so these are read with `get`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from deepred_common.evaluation import discrimination, metrics, probe_figures, results_file
from deepred_common.evaluation.metrics import Level
from deepred_common.evaluation.probes import forms
from deepred_common.evaluation.results_schema import (
    Interval,
    ResultRow,
    Results,
    SideChange,
    Summary,
    counts_of,
)
from deepred_common.evaluation.verdicts import FAILED
from deepred_common.examples import ALL_SIDES, CHAT, RETAIN, SIDES, UNLEARN
from deepred_common.reporting.number_text import (
    beyond_facts,
    counted,
    date_text,
    interval,
    percent,
    year_text,
)
from deepred_common.reporting.report import Column, Report

Data = dict[str, Any]  # what a template gets

# The right verdict first: the order of bars, columns and legends. Rare ones are shown only where they occur.
VERDICTS = {
    RETAIN: ("correct", "wrong", "refused"),
    UNLEARN: ("refused", "confabulated", "leaked"),
    CHAT: ("replied", "refused"),
}
RARE = ("leaked", "wrong", "broken", "failed")
SIDE_TITLES = {
    RETAIN: "Before the cutoff (retain)",
    UNLEARN: "After the cutoff (unlearn)",
    CHAT: "Everyday prompts (chat)",
}
BREAKDOWNS = {
    "period": "By period of the fact",
    "near": "Near the cutoff",
    "field": "By field",
    "form": "By form of question",
    "probe": "By the way of asking about the fact",
}
MODEL_KINDS = {
    "folder": "model folder",
    "adapter": "LoRA adapter",
    "gguf": "GGUF file",
    "api": "model behind a server",
}
# {metrics.status: (mark, class of the style sheet)}
_STATUS_MARKS = {
    "target met": ("✓", "good"),
    "minimum met": ("○", "fair"),
    "below minimum": ("✗", "poor"),
}
SIGNIFICANT = 0.05  # p-values below it are called more than chance, as is usual


def header(report: Report) -> Data:
    """The model, what was asked of it, and how well it did."""
    results = report.results
    model = results["model"]
    kind = model.get("kind")
    facts = [
        ("Model", "text", str(model.get("name"))),
        ("Kind", "text", MODEL_KINDS.get(kind, str(kind or "unknown"))),
        ("Identity", "code" if model.get("identity") else "text", str(model.get("identity") or "not known")),
    ]
    answered_by = [str(name) for name in model.get("answered_by") or () if name != model.get("name")]
    if answered_by:
        facts.append(("Answered by", "text", ", ".join(answered_by)))
    if system_prompt := model.get("system_prompt"):
        facts.append(("System prompt", "prompt", system_prompt))
    facts.append(("Cutoff", "text", date_text(results.get("cutoff")) or "not given"))
    facts.append(("Finished", "text", str(results.get("finished") or "not known").replace("T", " ")))
    facts.append(("Questions", "text", _questions_text(report.headline)))
    if probes := results.get("probes"):
        total = counted(len(results["results"]), "question")
        facts.append(
            ("Probe forms", "text", f"{len(probes['forms'])}, {total} in all, below under “Forms of asking”")
        )
    if judge := results.get("judge"):
        facts.append(("Judge", "text", _judge_text(judge)))
    return {"name": report.names[0], "facts": facts, "quality": _quality(results)}


def _questions_text(rows: Sequence[ResultRow]) -> str:
    sides = Counter(row["side"] for row in rows)
    failed = sum(row["verdict"] == FAILED for row in rows)
    total = counted(len(rows), "question")
    text = f"{total}: {sides[RETAIN]} before the cutoff (retain), {sides[UNLEARN]} after it (unlearn)"
    text += f", {sides[CHAT]} everyday prompts (chat)" if sides[CHAT] else ""
    return text + (f"; {failed} got no reply" if failed else "")


def _judge_text(judge: Any) -> str:
    agreement = [
        f"{label} {judge[key]:.2f}"
        for key, label in (("agreement", "agreement"), ("kappa", "Cohen’s kappa"))
        if isinstance(judge.get(key), int | float)
    ]
    name = str(judge.get("model"))
    return f"{name} ({', '.join(agreement)} with the labelled answers)" if agreement else name


def _status(level: Level, value: float | None) -> tuple[str, str]:
    """(mark and words, class) of a figure; the words are those of the printed block."""
    words = metrics.status(level, value)
    if not words:
        return "no questions", ""
    mark, css_class = _STATUS_MARKS[words]
    return f"{mark}\u00a0{words}", css_class


def _quality(results: Results) -> Data:
    summary = results["summary"]
    name = results.get("quality") or metrics.quality(summary)
    labels: dict[str, list[str]] = {"poor": [], "fair": [], "good": [], "": []}
    for level in metrics.LEVELS:
        labels[_status(level, summary.get(level.rate))[1]].append(level.label.lower())
    below = ", ".join(labels["poor"])
    short = ", ".join([*labels["fair"], *_chat_reason(results)])
    mark, css_class, why = {
        "EXCELLENT": ("✓", "good", "All four figures reach their target."),
        "ACCEPTABLE": ("○", "fair", f"All four figures reach the minimum; short of the target: {short}."),
        "ONE SIDE ONLY": ("–", "fair", "Without questions of both sides there is no level."),
    }.get(name, ("✗", "poor", f"Below the minimum: {below}." if below else ""))
    return {"name": name, "mark": mark, "css_class": css_class, "why": why}


def _chat_reason(results: Results) -> list[str]:
    """The words for everyday prompts that keep a model from EXCELLENT, in a list; [] if they do not."""
    summary = results["summary"]
    base = results_file.refused_by_base(results)
    if metrics.is_sociable(summary, base):
        return []
    of_base = f", its base {percent(base)}" if base is not None else ""
    return [f"everyday prompts, of which it refuses {percent(summary['chat_refusal_rate'])}{of_base}"]


def figures(report: Report) -> Data:
    """The four figures against target and minimum, and where too few questions leave the level open."""
    summary, intervals = report.results["summary"], report.results.get("intervals") or {}
    rows, notes = [], []
    for level in metrics.LEVELS:
        value, bounds = summary.get(level.rate), intervals.get(level.rate)
        words, css_class = _status(level, value)
        rows.append(
            {
                "level": level,
                "value": value,
                "interval": bounds,
                "gauge": _gauge(level, value, bounds),
                "status": words,
                "css_class": css_class,
            }
        )
        if note := _open_level(level, summary, bounds):
            notes.append((level.label, note))
    overall = {"value": summary.get("temporal_accuracy"), "interval": intervals.get("temporal_accuracy")}
    return {"rows": rows, "notes": notes, "overall": overall}


def _open_level(level: Level, summary: Summary, bounds: Interval | None) -> str | None:
    """A sentence if the interval lies on both sides of a bound, so that the level is not settled."""
    crossed = [f"the {name} ({bound}\u00a0%)" for name, bound in level.crossed(bounds)] if bounds else []
    if not crossed:
        return None
    total = counts_of(summary, metrics.RATES[level.rate][0]).get("total")
    few = counted(total, "question") if total else "these"
    crossings = " and ".join(crossed)
    return f"the interval {interval(bounds)} lies on both sides of {crossings}; {few} are too few to tell."


def _gauge(level: Level, value: float | None, bounds: Sequence[float] | None) -> Data | None:
    """Result, interval and both bounds on a scale from 0 to 100, two pixels a percent."""
    if value is None:
        return None
    rising = level.direction == ">"
    bands = [
        (css_class, 2 * bound if rising else 0, 2 * (100 - bound) if rising else 2 * bound)
        for css_class, bound in (("enough", level.minimum), ("aim", level.target))
    ]
    return {
        "bands": bands,
        "value": 2 * value,
        "interval": [2 * bound for bound in bounds] if bounds else None,
    }


def _part(column: Column, key: str) -> Any:
    """A part of a column's results; None if these, or the part, are not known."""
    return column.results.get(key) if column.results else None


def compared(report: Report) -> Data | None:
    """The same figures of each model; None if there is only one."""
    if len(report.columns) < 2:
        return None
    labels = {level.rate: level.label for level in metrics.LEVELS} | {
        "temporal_accuracy": "Temporal accuracy"
    }
    rows = []
    for rate, label in labels.items():
        cells = []
        for column in report.columns:
            intervals = _part(column, "intervals") or {}
            cells.append((column.summary.get(rate), intervals.get(rate)))
        rows.append((label, cells))
    cutoffs = [_cutoff_text(column.results) for column in report.columns]
    separations = [
        (_part(column, "discrimination") or {}).get(discrimination.ALL) for column in report.columns
    ]
    counts = [
        sum(counts_of(column.summary, side).get("total", 0) for side in ALL_SIDES)
        for column in report.columns
    ]
    return {
        "names": [column.name for column in report.columns],
        "counts": counts if len(set(counts)) > 1 else None,
        "rows": rows,
        "separations": separations if any(separations) else None,
        "cutoffs": cutoffs if any(cutoffs) else None,
    }


def _cutoff_text(results: Results | None) -> str:
    """The effective cutoff, as a year or as "after 2020" beyond the facts; "" if there is none."""
    curve = metrics.curve_of(results.get("curve")) if results else None
    if not results or not curve or curve.cutoff is None:
        return ""
    probes = results.get("probes")
    rows = probe_figures.headline(results["results"], probes["forms"] if probes else ())
    return beyond_facts(curve, rows) or year_text(curve.cutoff)


def verdict_bars(report: Report) -> Data:
    """For each side, the verdicts of each model as a bar and as counts."""
    tables = []
    for side in ALL_SIDES:
        rows: list[Data] = []
        for column in report.columns:
            counts = dict(counts_of(column.summary, side))
            total = counts.pop("total", None) or sum(counts.values())
            rows.append({"name": column.name, "counts": counts, "total": total})
        if side == CHAT and not any(row["total"] for row in rows):
            continue
        verdicts = _shown_verdicts(side, [row["counts"] for row in rows])
        tables.append({"side": side, "title": SIDE_TITLES[side], "verdicts": verdicts, "rows": rows})
    return {"tables": tables}


def _shown_verdicts(side: str, counts: Iterable[dict[str, int]]) -> list[str]:
    """The verdicts of a side that get a column."""
    counts = list(counts)
    usual = VERDICTS[side]
    rare = [name for name in RARE if name not in usual and any(one.get(name) for one in counts)]
    return [*usual, *rare]


def breakdown(report: Report) -> Data | None:
    """The verdicts by group of questions, a table a kind of group; None if the results have none."""
    tables = []
    for kind, title in BREAKDOWNS.items():
        if kind == "probe" and report.results.get("probes"):
            continue  # the matrix of forms holds them
        groups = (report.results.get("breakdown") or {}).get(kind)
        if not groups:
            continue
        counts = {side: [group.get(side) or {} for group in groups.values()] for side in SIDES}
        tables.append(
            {
                "title": title,
                "sides": [(side, SIDE_TITLES[side], _shown_verdicts(side, counts[side])) for side in SIDES],
                "groups": [(str(name), group) for name, group in groups.items()],
            }
        )
    return {"tables": tables} if tables else None


def differences(report: Report) -> Data:
    """For each other model: how many verdicts differ, and for each side whether chance explains it."""
    probes = report.results.get("probes")
    comparisons = []
    for name, found in zip(report.names[1:], report.differences, strict=True):
        against = found["against"]
        changes = {RETAIN: against["retain"], UNLEARN: against["unlearn"], CHAT: against["chat"]}
        comparisons.append(
            {
                "name": name,
                "against": against,
                "changed": found["changed"],
                "counts": {group: len(rows) for group, rows in found["groups"].items()},
                "sides": [
                    (SIDE_TITLES[side], change, _by_chance(change))
                    for side, change in changes.items()
                    if found["sides"].get(side)
                ],
                "groups": (
                    ("worse", "Worse here: right there, not here"),
                    ("better", "Better here: right here, not there"),
                    ("neither", "Different, but right in neither"),
                ),
            }
        )
    direct_alone_count = len(probes["forms"]) > 1 and forms.DIRECT in probes["forms"] if probes else False
    return {"comparisons": comparisons, "direct_alone_count": direct_alone_count}


def _by_chance(change: SideChange) -> str:
    if not change["better"] + change["worse"]:
        return "the two are right on the same questions"
    if change["mcnemar"] < SIGNIFICANT:
        return "more than chance explains"
    return "a difference that chance alone may explain"


def every_question(report: Report) -> Data:
    """The empty frame of the list, which the script fills. It needs nothing from here."""
    return {}


def settings(report: Report) -> Data:
    """What is needed to repeat the evaluation: data files, settings, versions, times."""
    results = report.results
    values = []
    for name, entry in (results.get("settings") or {}).items():
        known = isinstance(entry, dict) and "source" in entry
        values.append((name, f"{entry['value']} [{entry['source']}]" if known else str(entry)))
    started = {"started": results.get("started"), "finished": results.get("finished")}
    tables = (
        ("Data files", "file", "SHA-256", list((results.get("data") or {}).items())),
        ("Settings", "setting", "value, and where it came from", values),
        ("Versions", "package", "version", list((results.get("versions") or {}).items())),
        ("Times", "when", "time", [(name, time) for name, time in started.items() if time]),
    )
    return {"tables": [table for table in tables if table[3]]}
