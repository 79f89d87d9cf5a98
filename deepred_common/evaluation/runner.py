"""Asking a model every question and writing down what it says: journal, verdicts, results file.

args, everywhere: the settings of evaluate_temporal.py, as its parser gives them.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

from deepred_common import chat, cli, paths, provenance
from deepred_common.cli import UserError
from deepred_common.data import questions
from deepred_common.dates import year_of
from deepred_common.evaluation import comparison, journal, metrics, results_file, verdicts
from deepred_common.examples import date_of
from deepred_common.inference.backends import kind_of, opened

BASE_SUFFIXES = (
    "base",
    "base-prompt",
)  # the files of --base_model, untouched and with a prompt that states the cutoff


def journal_of(output):
    """Where replies are written down as they come, beside the results file `output`."""
    return output.with_suffix(".replies.jsonl")


def base_output(args, suffix):
    """The results file of --base_model with one of BASE_SUFFIXES, beside --output."""
    return args.output.with_name(f"{args.output.stem}.{suffix}.json")


def open_journal(args, path, head):
    """The journal to write to: gone on with (--resume), or new. With both flags, new where the old one does not fit."""
    if args.overwrite and not args.resume:
        journal.discard(path)
    try:
        return journal.Journal(path, head)
    except UserError:
        if not args.overwrite:
            raise
        journal.discard(path)
        return journal.Journal(path, head)


@dataclass(frozen=True)
class Task:
    """What every model of one call is asked and judged with: the same lines, the same judge. data: {file: SHA-256}."""

    args: argparse.Namespace
    settings: dict
    examples: list
    data: dict
    judge: dict | None
    grade: Callable


def ask(task, model, head, output):
    """Ask every example, writing each reply down as it comes; return the result rows in the order of `examples`."""
    from tqdm import tqdm

    args, examples, path = task.args, task.examples, journal_of(output)
    rows = [None] * len(examples)
    with open_journal(args, path, head) as log:
        if log.replies:
            cli.progress(f"{len(log.replies)} of {len(examples)} replies are in {paths.shown(path)} already")
        left = [number for number in range(len(examples)) if number not in log.replies]
        try:
            for number, reply in log.replies.items():
                rows[number] = row_of(task, number, reply)
            with tqdm(
                total=len(examples), initial=len(examples) - len(left), desc="asking", unit="question"
            ) as bar:
                for place, reply in model.ask([examples[number].instruction for number in left]):
                    number = left[place]
                    log.add(number, examples[number].instruction, reply)
                    rows[number] = row = row_of(task, number, reply)
                    if args.verbose:
                        bar.write(
                            f"[{row['side']}: {row['verdict']}] {row['instruction']}\n    {reply.error or reply.text}",
                            file=sys.stdout,
                        )
                    bar.update()
        except KeyboardInterrupt:
            raise cli.Interrupted(f"{len(log.replies)} replies are kept. {go_on(args)}") from None
        except UserError as error:
            raise UserError(f"{error}\n{len(log.replies)} replies are kept. {go_on(args)}") from error
    return rows


def go_on(args):
    return f"Go on with the same command and --output {paths.shown(args.output)} --resume"


def row_of(task, number, reply):
    """One row of the results: the example, its reply and the verdict."""
    example = task.examples[number]
    return {
        "id": number,
        "instruction": example.instruction,
        "side": example.side,
        "reference": example.output,
        "true_answer": verdicts.true_answer(example),
        "date": date_of(example),
        "field": example.metadata.get("field"),
        "form": questions.question_form(example.instruction),
        "probe": example.metadata.get("probe"),
        "reply": reply.text,
        "finish": reply.finish,
        "verdict": verdicts.FAILED
        if reply.error
        else verdicts.verdict(example, reply.text, task.grade, task.args.cutoff),
        "error": reply.error,
    }


def evaluate(task, path, system, output, baselines=()):
    """Ask one model (`path`, None for the server) everything; write and return its results object."""
    args = task.args
    started = provenance.now()
    name = str(path or args.lmstudio_model or args.lmstudio_url)
    with opened(args, path, system) as (model, identity):
        asked = {"model": identity or (model.model if path is None else name), **asked_for(task, system)}
        rows = ask(task, model, asked, output)
    summary = metrics.summarise(rows)
    curve = metrics.refusal_curve(rows, year_of(args.cutoff))
    found = {
        "schema": results_file.SCHEMA,
        "model": {
            "name": model.model if path is None else name,
            "kind": "api" if path is None else kind_of(path),
            "identity": identity,
            "answered_by": model.answered_by,
            "system_prompt": system,
        },
        "cutoff": args.cutoff,
        "started": started,
        "finished": provenance.now(),
        "settings": task.settings,
        "versions": provenance.versions(),
        "data": task.data,
        "asked": asked,
        "judge": task.judge,
        "quality": metrics.quality(summary),
        "summary": summary,
        "intervals": metrics.intervals(summary),
        "breakdown": metrics.breakdown(rows, year_of(args.cutoff)),
        "curve": curve and curve.as_dict(),
        "baselines": [],
        "results": rows,
    }
    found["baselines"] = [
        {
            "label": results_file.label(other),
            "summary": other["summary"],
            "against": comparison.against(comparison.paired(found, other)),
        }
        for other in baselines
    ]
    results_file.write(output, found)
    if not any(row["error"] for row in rows):
        # Only now: the results hold everything.
        journal_of(output).unlink(missing_ok=True)
    return found


def asked_for(task, system):
    """What, beside the model, must be the same for replies of two evaluations to count as one."""
    args = task.args
    return {
        "max_tokens": args.max_tokens,
        "system_prompt": system,
        "data": sorted(task.data.values()),
        "limit": args.limit,
        "seed": args.seed if args.limit else None,
    }


def evaluate_base(task):
    """The results of --base_model, plain and with only a prompt that states the cutoff; what is there already is read."""
    args, found = task.args, []
    for suffix, system in zip(BASE_SUFFIXES, (None, chat.cutoff_prompt(args.cutoff)), strict=True):
        output = base_output(args, suffix)
        if output.exists() and args.resume:
            before = results_file.read(output)
            wanted = asked_for(task, system)
            same = (
                before["model"]["name"] == str(args.base_model) and wanted.items() <= before["asked"].items()
            )
            if not same and not args.overwrite:
                raise UserError(
                    f"{paths.shown(output)} is of another base, data or setting; add --overwrite to ask the base again."
                )
            if same and not any(row["error"] for row in before["results"]):
                found.append(before)
                continue
        cli.progress(
            f"asking the base, {'with a prompt that states the cutoff' if system else 'untouched'} …"
        )
        found.append(evaluate(task, args.base_model, system, output))
    return found
