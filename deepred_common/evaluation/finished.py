"""Finished evaluations: is a results file what --resume is to bring about, so that nothing is left to ask?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    settings: EvalSettings,
    questions: Questions,
    model: str,
    model_files: dict[str, str] | None,
    system_prompt: str | None,
) -> Conditions:
    """What must be the same for replies to count as of one evaluation. model: its identity, or its name.

    model_files: of backends.beside_weights.
    """
    return {
        "model": model,
        "model_files": model_files,
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


def changes(
    results: Results,
    settings: EvalSettings,
    questions: Questions,
    path: str | None,
    system_prompt: str | None,
) -> str:
    """What tells results from those of the model at `path`, these questions and settings; "" if nothing does.

    path: None for the model that the settings name behind a server, or for whichever one is there.
    """
    before: dict[str, Any] = dict(results.get("asked") or {})
    now: dict[str, Any] = dict(conditions(settings, questions, "", None, system_prompt))
    before["model"] = ""
    if "questions" not in before:  # earlier versions had none
        del now["questions"]
    before["cutoff"], now["cutoff"] = results["cutoff"], settings.cutoff
    judge = results.get("judge")
    if not settings.judge_url or settings.judge_model:
        before["judge"], now["judge"] = judge and judge["model"], settings.judge_url and settings.judge_model
    elif not judge:
        before["judge"], now["judge"] = None, settings.judge_url
    if text := journal.changes(before, now):
        return text
    return _model_changes(results, path, settings.lmstudio_model)  # last, since it may read gigabytes


def _model_changes(results: Results, path: str | None, at_server: str | None) -> str:
    """What tells the model of results from the one at `path`; from that name at a server without a path.

    Names are compared only if one model's weights are not known. A folder may be given relative to another
    place, or may have been moved.
    """
    then, name = results["model"], path or at_server
    now = backends.identity(path) if path and then["identity"] else None
    is_same = now == then["identity"] if now else name in (None, then["name"])
    if not is_same and name == then["name"]:
        return f"the weights of {name} have changed"
    if not is_same:
        return f"model: {then['name']!r} then, {name!r} now"
    files = {journal.MODEL_FILES: backends.beside_weights(path)}
    return journal.changes(results.get("asked") or {}, files)


def read(
    settings: EvalSettings,
    questions: Questions,
    path: str | None,
    system_prompt: str | None,
    output: Path | None = None,
) -> Results | None:
    """The results that --resume finds complete in `output` (None: the settings'); None if there are none.

    path: as in `changes`. Results of something else, or a file that holds none, are a UserError; with
    --overwrite, no results.
    """
    output = output or settings.output
    without_reply = journal.path_for(output).exists()
    if without_reply or not (settings.resume and output.exists()):
        return None
    try:
        results = results_file.read(output)
        if text := changes(results, settings, questions, path, system_prompt):
            raise UserError(
                f"{paths.shown(output)} is a finished evaluation of another model, other data or other "
                f"settings ({text}).\nChoose another --output, or add --overwrite."
            )
        return None if errors(results["results"]) else results
    except UserError:
        if settings.overwrite:
            return None
        raise


def read_bases(settings: EvalSettings, questions: Questions, base: str) -> list[Results | None]:
    """What `read` finds of --base_model, for each of output_files.base_results."""
    outputs = output_files.base_results(settings.output)
    prompts = base_prompts(settings.cutoff)
    return [
        read(settings, questions, base, prompt, output)
        for output, prompt in zip(outputs, prompts, strict=True)
    ]


def base_prompts(cutoff: str) -> tuple[None, str]:
    """The system prompts that the base is asked with: none, and one that states the cutoff."""
    return None, chat.cutoff_prompt(cutoff)
