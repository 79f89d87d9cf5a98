"""Finished evaluations: is a results file what --resume is to bring about, so that nothing is left to ask?"""

from __future__ import annotations

from collections.abc import Sequence

from deepred_common import chat, paths
from deepred_common.cli import UserError
from deepred_common.evaluation import journal, output_files, results_file
from deepred_common.evaluation.question_files import Questions
from deepred_common.evaluation.results_schema import Conditions, ResultRow, Results
from deepred_common.evaluation.settings import EvalSettings
from deepred_common.inference import backends


def errors(rows: Sequence[ResultRow]) -> list[str]:
    """Why there is no reply, of each that is missing, samples too."""
    replies = [reply for row in rows for reply in (row, *(row.get("samples") or ()))]
    return [reply["error"] for reply in replies if reply["error"]]


def conditions(
    settings: EvalSettings, questions: Questions, model: str, system_prompt: str | None
) -> Conditions:
    """What must be the same for replies to count as of one evaluation. model: its identity, or its name."""
    return {
        "model": model,
        "max_tokens": settings.max_tokens,
        "system_prompt": system_prompt,
        "chat": chat.VERSION,
        "data": sorted(questions.data.values()),
        "questions": questions.digest,
        "limit": settings.limit,
        "seed": settings.seed if settings.limit or settings.samples else None,
        "probes": list(questions.forms) or None,
        "samples": settings.samples,
        "temperature": settings.temperature if settings.samples else None,
    }


def is_of(
    results: Results,
    settings: EvalSettings,
    questions: Questions,
    name: str | None,
    system_prompt: str | None,
) -> bool:
    """True if results are of the model `name` (None: of whichever one), these questions and settings."""
    judge = results.get("judge")
    if (judge is None) != (settings.judge_url is None):
        return False
    if judge and settings.judge_model not in (None, judge["model"]):
        return False
    if name not in (None, results["model"]["name"]) or results["cutoff"] != settings.cutoff:
        return False
    before = results.get("asked") or {}
    wanted = conditions(settings, questions, "", system_prompt)
    ignored = {"model"} if "questions" in before else {"model", "questions"}  # earlier versions had none
    if any(before.get(key) != value for key, value in wanted.items() if key not in ignored):
        return False
    # Last, since gigabytes may have to be read: another model of the same name.
    weights = results["model"]["identity"]
    return not (name and weights) or backends.identity(name) in (None, weights)


def read(
    settings: EvalSettings, questions: Questions, name: str | None, system_prompt: str | None
) -> Results | None:
    """The results that --resume finds complete; None if there are none.

    Those that are not is_of these, or no results, are a UserError; with --overwrite they count as none.
    """
    without_reply = journal.path_for(settings.output).exists()
    if without_reply or not (settings.resume and settings.output.exists()):
        return None
    try:
        results = results_file.read(settings.output)
        if is_of(results, settings, questions, name, system_prompt):
            return results
        raise UserError(
            f"{paths.shown(settings.output)} is a finished evaluation of another model, other data or other "
            "settings.\nChoose another --output, or add --overwrite."
        )
    except UserError:
        if settings.overwrite:
            return None
        raise


def stands_beside(results: Results, settings: EvalSettings, questions: Questions, base: str) -> bool:
    """True if finished results hold the comparison with the base, whose own results lack no reply."""
    labels = {one["label"] for one in results["baselines"]}
    prompts = None, chat.cutoff_prompt(settings.cutoff)
    for output, system_prompt in zip(output_files.base_results(settings.output), prompts, strict=True):
        if not output.exists():
            return False
        before = results_file.read(output)
        is_same = is_of(before, settings, questions, base, system_prompt)
        if not is_same or errors(before["results"]) or results_file.label(before) not in labels:
            return False
    return True
