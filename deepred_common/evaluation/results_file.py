"""Results files: built from the rows of an evaluation, written, and read back for comparisons and reports.

A results file is one JSON object; results_schema says what each part holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from deepred_common import chat, paths, provenance
from deepred_common.cli import Setting, UserError, warn
from deepred_common.dates import year_of
from deepred_common.evaluation import (
    comparison,
    discrimination,
    knowledge,
    metrics,
    probe_figures,
    sampling,
    verdicts,
)
from deepred_common.evaluation.results_schema import (
    SCHEMA,
    Baseline,
    Conditions,
    FittedCurve,
    JudgeInfo,
    ModelInfo,
    ResultRow,
    Results,
)
from deepred_common.evaluation.settings import EvalSettings
from deepred_common.examples import CHAT, Example
from deepred_common.files import json_text, write_text
from deepred_common.foreign_text import whole_characters

SHOWN_OF_COMMIT = 7  # digits, as git shows them
_NEEDED = ("model", "summary", "results")  # what comparisons and reports cannot do without


def build(
    rows: list[ResultRow],
    *,
    model: ModelInfo,
    cutoff: str,
    started: str,
    settings: Mapping[str, Setting],
    data: Mapping[str, str],
    conditions: Conditions,
    judge: JudgeInfo | None,
    baselines: Sequence[Results] = (),
    probes: Sequence[str] = (),
) -> Results:
    """The results object of an evaluation that has just finished. baselines: others on the same questions.

    probes: the forms that were asked. All figures but those of the forms are then of the direct questions.
    """
    year = year_of(cutoff)
    if year is None:
        raise ValueError(f"{cutoff!r} is not a date")
    headline = probe_figures.headline(rows, probes)
    summary = metrics.summarise(headline)
    curve = metrics.refusal_curve(headline, year)
    by_probe = metrics.breakdown(rows, year)["probe"]
    results: Results = {
        "schema": SCHEMA,
        "model": model,
        "cutoff": cutoff,
        "started": started,
        "finished": provenance.now(),
        "settings": dict(settings),
        "versions": provenance.versions(),
        "data": dict(data),
        "asked": conditions,
        "judge": judge,
        "quality": metrics.quality(summary),
        "summary": summary,
        "intervals": metrics.intervals(headline),
        "breakdown": metrics.breakdown(headline, year) | {"probe": by_probe},
        "curve": cast(FittedCurve, curve.as_dict()) if curve else None,
        "discrimination": discrimination.measure(headline),
        "probes": probe_figures.measure(rows, probes),
        "sampling": sampling.measure(headline, conditions.get("temperature")),
        "knowledge": knowledge.measure(rows),
        "relearning": None,
        "baselines": [],
        "results": rows,
    }
    set_baselines(results, baselines)
    return results


def set_baselines(results: Results, baselines: Sequence[Results]) -> None:
    """Compare results with others on the same questions. Comparisons that they hold with others stay.

    The first one counts in the quality, too.
    """
    labels = {label(other) for other in baselines}
    stored = results["baselines"]
    kept = [one for one in stored if one["label"] not in labels]
    is_first_kept = bool(kept) and kept[0] is stored[0]
    compared = _compared(results, baselines)
    results["baselines"] = [*kept, *compared] if is_first_kept else [*compared, *kept]
    results["quality"] = metrics.quality(results["summary"], refused_by_base(results))


def refused_by_base(results: Results) -> float | None:
    """The chat_refusal_rate of the first baseline on the prompts that it shares with the results.

    Of other prompts it says nothing about these. None without a baseline, or without such prompts.
    """
    if not (baselines := results.get("baselines")):
        return None
    of_all = baselines[0]["summary"].get("chat_refusal_rate")  # earlier versions recorded no other one
    against: Mapping[str, Any] = baselines[0].get("against") or {}
    return against.get("chat_refusal_rate", of_all)


def _compared(results: Results, baselines: Sequence[Results]) -> list[Baseline]:
    """What the results hold of each of the others."""
    compared: list[Baseline] = []
    for other in baselines:
        all_pairs = comparison.paired(results, other)
        pairs = counted_pairs(results, all_pairs)
        compared.append(
            {
                "label": label(other),
                "summary": other["summary"],
                "against": comparison.compare(pairs),
                "discrimination": other["discrimination"],
                "present_tense": metrics.present_tense(other["breakdown"]),
                "probes": other["probes"],
                "by_probe": other["breakdown"]["probe"] if other["probes"] else {},
                "still_leaked": probe_figures.still_leaked(all_pairs)
                if results["probes"] and other["probes"]
                else None,
                "knowledge": other["knowledge"],
            }
        )
    return compared


def counted_pairs(results: Results, pairs: Sequence[comparison.Pair]) -> list[comparison.Pair]:
    """Those pairs of comparison.paired whose questions the figures of the results count: with probes, the
    direct ones."""
    probes = results.get("probes")
    headline = probe_figures.headline(results["results"], probes["forms"] if probes else ())
    counted = {id(row) for row in headline}
    return [pair for pair in pairs if id(pair[0]) in counted]


def write(path: Path, results: Results) -> None:
    """Write a results object, whole or not at all."""
    write_text(path, json_text(results, indent=1) + "\n")


def read(path: Path) -> Results:
    """The results object in a file; UserError if it is not one of this schema."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; a results JSON of evaluate_temporal.py is needed.")
    try:
        content = whole_characters(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(
            f"{path} cannot be read as JSON; a results file of evaluate_temporal.py is needed."
        ) from None
    return _checked(path, content)


def _checked(path: Path, content: Any) -> Results:
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
        raise UserError(f"{path} is not a results file of evaluate_temporal.py.")
    schema = content["schema"]
    if schema < SCHEMA:
        raise UserError(
            f"{path} was written by an older version of evaluate_temporal.py "
            f"(schema {schema}; this one reads {SCHEMA}).\nEvaluate that model again."
        )
    if schema > SCHEMA:
        raise UserError(
            f"{path} was written by a newer version of evaluate_temporal.py "
            f"(schema {schema}; this one reads {SCHEMA}).\nUpdate this project, or evaluate that model again."
        )
    missing = [key for key in _NEEDED if not isinstance(content.get(key), list if key == "results" else dict)]
    if missing:
        raise UserError(f"{path} is damaged: it has no {', '.join(missing)}. Evaluate that model again.")
    return _completed(content)


def _completed(content: Any) -> Results:
    """Results with what earlier versions of this schema did not record."""
    others = content.get("baselines") or []
    for summary in [content["summary"], *(one["summary"] for one in others if one.get("summary"))]:
        summary.setdefault("chat", {"total": 0} | dict.fromkeys(verdicts.VERDICTS[CHAT], 0))
        summary.setdefault("chat_refusal_rate", None)
        if "retain" in summary:
            summary["retain"].setdefault(verdicts.LEAKED, 0)
    for one in others:
        one["against"].setdefault("chat", {"better": 0, "worse": 0, "mcnemar": 1.0})
        one.setdefault("discrimination", None)
        one.setdefault("present_tense", {})
        one.setdefault("probes", None)
        one.setdefault("by_probe", {})
        one.setdefault("still_leaked", None)
        one.setdefault("knowledge", None)
    content.setdefault("breakdown", {}).setdefault("chat", {})
    content.setdefault("discrimination", None)
    content.setdefault("probes", None)
    content.setdefault("sampling", None)
    content.setdefault("knowledge", None)
    content.setdefault("relearning", None)
    return cast(Results, content)


def read_baselines(
    files: Sequence[Path], examples: Sequence[Example], settings: EvalSettings
) -> list[Results]:
    """Read results to compare with what will be asked.

    UserError if one has no question in common with `examples`, a warning if it lacks some, or if it was asked
    or graded otherwise than the settings say.
    """
    questions = {
        comparison.question_key(example.side, example.earlier, example.instruction, example.prefix)
        for example in examples
    }
    baselines = []
    for path in files:
        baseline = read(path)
        common = questions & {comparison.key_of(row) for row in baseline["results"]}
        if not common:
            raise UserError(f"{path} has no question in common with the test files.")
        if len(common) < len(questions):
            warn(
                f"{path} holds {len(common)} of the {len(questions)} questions; "
                "comparisons with it count only those."
            )
        judge = settings.judge_model or settings.judge_url
        if baseline["judge"] and settings.judge_url and not settings.judge_model:
            judge = baseline["judge"]["model"]  # its server has not said yet which model it is
        warn_of_other_figures(
            path,
            baseline,
            {
                "judge": judge,
                "cutoff": settings.cutoff,
                "max_tokens": settings.max_tokens,
                "version of the prompts": chat.VERSION,
            },
        )
        baselines.append(baseline)
    return baselines


def asked_and_graded(results: Results) -> dict[str, Any]:
    """What must be the same for the figures of two results to be comparable, as far as the file says it."""
    asked: Mapping[str, Any] = results.get("asked") or {}
    judge = results.get("judge")
    found = {
        "judge": judge["model"] if judge else None,
        "cutoff": results.get("cutoff"),
        "max_tokens": asked.get("max_tokens"),
        "version of the prompts": asked.get("chat"),
    }
    return {name: value for name, value in found.items() if value is not None or name == "judge"}


def warn_of_other_figures(path: Path, results: Results, here: Mapping[str, Any]) -> None:
    """One warning of what tells results from those that they are compared with, if anything does.

    here: asked_and_graded of the others.
    """
    there = asked_and_graded(results)
    differing = [
        f"{name} {there[name] or 'none'} there, {value or 'none'} here"
        for name, value in here.items()
        if name in there and there[name] != value
    ]
    if differing:
        warn(
            f"{paths.shown(path)} was asked or graded in another way. The comparison shows that "
            f"difference too: {'; '.join(differing)}."
        )


def label(results: Results) -> str:
    """A short name for results: the model's last two path parts, and "+ prompt" with a system prompt.

    A commit in it, of 40 digits, is cut to its first ones.
    """
    name = "/".join(Path(results["model"]["name"]).parts[-2:])
    name = re.sub(rf"(@[0-9a-f]{{{SHOWN_OF_COMMIT}}})[0-9a-f]+$", r"\1", name)
    return f"{name} + prompt" if results["model"]["system_prompt"] else name
