"""Asking a model every question and writing down what it says: journal, verdicts, results file.

args, everywhere: the settings of evaluate_temporal.py, as its parser gives them.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass

from deepred_common import chat, cli, devices, journal, metrics, models, paths, records, runs
from deepred_common import results as results_files
from deepred_common.cli import UserError

BASE_SUFFIXES = ("base", "base-prompt")  # the files of --base_model, untouched and with a prompt that states the cutoff


def kind_of(model_path):
    """What --model_path is: "gguf", "adapter" or "folder" (a hub name is one too)."""
    if str(model_path).endswith(".gguf"):
        return "gguf"
    return "adapter" if models.is_adapter(model_path) else "folder"


def journal_of(output):
    """Where replies are written down as they come, beside the results file `output`."""
    return output.with_suffix(".replies.jsonl")


def base_output(args, suffix):
    """The results file of --base_model with one of BASE_SUFFIXES, beside --output."""
    return args.output.with_name(f"{args.output.stem}.{suffix}.json")


@contextlib.contextmanager
def opened(args, path, system):
    """The model to ask (replies.LocalModel or ApiModel) and its identity; a GGUF file is served while it is open."""
    from deepred_common import llama_server, replies

    if path is None:
        yield replies.ApiModel(args.lmstudio_url, args.lmstudio_model, args.max_tokens, args.in_flight, args.timeout, system), None
        return
    kind = kind_of(path)
    if kind == "gguf":
        cli.progress(f"serving {path} with llama.cpp …")
        with llama_server.serving(path, slots=args.in_flight, tree=args.llama_cpp_path) as url:
            yield replies.ApiModel(url, None, args.max_tokens, args.in_flight, args.timeout, system), runs.sha256(path)
        return
    models.quiet_libraries()
    dtype, why = devices.pick_dtype()
    device = devices.pick_device()
    cli.progress(f"loading {path} on {device} in {str(dtype).removeprefix('torch.')} ({why}) …")
    if kind == "adapter":
        model, tokenizer = models.load_with_adapter(models.require_adapter(path), dtype, trust_remote_code=args.trust_remote_code)
    else:
        model = models.load_model(path, dtype, args.trust_remote_code)
        tokenizer = models.load_tokenizer(path, args.trust_remote_code)
    yield replies.LocalModel(model.to(device), tokenizer, args.max_tokens, args.batch_size, system), models.identity(path, model.config)


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
            with tqdm(total=len(examples), initial=len(examples) - len(left), desc="asking", unit="question") as bar:
                for place, reply in model.ask([examples[number].instruction for number in left]):
                    number = left[place]
                    log.add(number, examples[number].instruction, reply)
                    rows[number] = row = row_of(task, number, reply)
                    if args.verbose:
                        bar.write(f"[{row['side']}: {row['verdict']}] {row['instruction']}\n    {reply.error or reply.text}", file=sys.stdout)
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
        "id": number, "instruction": example.instruction, "side": example.side, "reference": example.output,
        "true_answer": metrics.true_answer(example), "date": records.date_of(example),
        "field": example.metadata.get("field"), "form": metrics.question_form(example.instruction), "probe": example.metadata.get("probe"),
        "reply": reply.text, "finish": reply.finish,
        "verdict": metrics.FAILED if reply.error else metrics.verdict(example, reply.text, task.grade, task.args.cutoff), "error": reply.error,
    }


def evaluate(task, path, system, output, baselines=()):
    """Ask one model (`path`, None for the server) everything; write and return its results object."""
    args = task.args
    started = runs.now()
    name = str(path or args.lmstudio_model or args.lmstudio_url)
    with opened(args, path, system) as (model, identity):
        asked = {"model": identity or (model.model if path is None else name), **asked_for(task, system)}
        rows = ask(task, model, asked, output)
    summary = metrics.summarise(rows)
    curve = metrics.refusal_curve(rows, records.year_of(args.cutoff))
    found = {
        "schema": results_files.SCHEMA,
        "model": {"name": model.model if path is None else name, "kind": "api" if path is None else kind_of(path), "identity": identity,
                  "answered_by": model.answered_by, "system_prompt": system},
        "cutoff": args.cutoff, "started": started, "finished": runs.now(), "settings": task.settings, "versions": runs.versions(),
        "data": task.data, "asked": asked, "judge": task.judge, "quality": metrics.quality(summary), "summary": summary,
        "intervals": metrics.intervals(summary),
        "breakdown": metrics.breakdown(rows, records.year_of(args.cutoff)), "curve": curve and curve.as_dict(), "baselines": [],
        "results": rows,
    }
    found["baselines"] = [{"label": results_files.label(other), "summary": other["summary"],
                           "against": metrics.against(results_files.paired(found, other))} for other in baselines]
    results_files.write(output, found)
    if not any(row["error"] for row in rows):
        # Only now: the results hold everything.
        journal_of(output).unlink(missing_ok=True)
    return found


def asked_for(task, system):
    """What, beside the model, must be the same for replies of two evaluations to count as one."""
    args = task.args
    return {"max_tokens": args.max_tokens, "system_prompt": system, "data": sorted(task.data.values()), "limit": args.limit,
            "seed": args.seed if args.limit else None}


def evaluate_base(task):
    """The results of --base_model, plain and with only a prompt that states the cutoff; what is there already is read."""
    args, found = task.args, []
    for suffix, system in zip(BASE_SUFFIXES, (None, chat.cutoff_prompt(args.cutoff)), strict=True):
        output = base_output(args, suffix)
        if output.exists() and args.resume:
            before = results_files.read(output)
            wanted = asked_for(task, system)
            same = before["model"]["name"] == str(args.base_model) and wanted.items() <= before["asked"].items()
            if not same and not args.overwrite:
                raise UserError(f"{paths.shown(output)} is of another base, data or setting; add --overwrite to ask the base again.")
            if same and not any(row["error"] for row in before["results"]):
                found.append(before)
                continue
        cli.progress(f"asking the base, {'with a prompt that states the cutoff' if system else 'untouched'} …")
        found.append(evaluate(task, args.base_model, system, output))
    return found
