#!/usr/bin/env python3
"""Evaluate how well a model keeps what was known before the cutoff and knows nothing after it.

Reads questions with their answers (JSON Lines; the validation files if none are given) and asks a local
model (merged folder or LoRA adapter), a GGUF file (llama.cpp serves it) or an OpenAI-compatible server such
as LM Studio. Prints the results and writes them as JSON; --report also as a page. --compare only sets
earlier results side by side. --date_probe asks nothing either: it reads from the hidden states of a
model how sharp a cutoff it can get. --attack relearn tunes a copy on a few answered facts and asks others.

    # training examples: shows that it works, not how well
    python scripts/evaluate_temporal.py --model_path output/merged --test_file datasets/dev/dev_subset.jsonl
    python scripts/evaluate_temporal.py --model_path output/merged.gguf --base_model BASE_FOLDER --report
    python scripts/evaluate_temporal.py --use_lmstudio --lmstudio_model temporal/merged --limit 50 --verbose
    python scripts/evaluate_temporal.py --model_path output/merged.gguf --probes all --limit 60
    python scripts/evaluate_temporal.py --compare output/eval-merged.json output/eval-gguf.json
    python scripts/evaluate_temporal.py --date_probe --model_path BASE_FOLDER
    python scripts/evaluate_temporal.py --attack relearn --model_path output/<run>/final
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import cli, paths
from deepred_common.cli import UserError
from deepred_common.evaluation import (
    date_probe,
    finished,
    llm_judge,
    metrics,
    output_files,
    probe_examples,
    question_files,
    relearning,
    results_file,
    runner,
)
from deepred_common.evaluation.command_line import (
    build_parser,
    check_flags,
    check_mode,
    settings_of,
    used_flags,
)
from deepred_common.evaluation.question_files import Questions
from deepred_common.evaluation.results_schema import Results
from deepred_common.evaluation.settings import EvalSettings
from deepred_common.examples import count_sides
from deepred_common.files import json_text, require_absent, write_text
from deepred_common.inference import backends, base_names
from deepred_common.inference.protocol import BackendSettings
from deepred_common.reporting import comparison_text, console, date_probe_text, html_page, relearning_text

EXIT_SOME_FAILED = EXIT_NOTHING_ANSWERED = 1


def main(argv: Sequence[str] | None = None) -> int:
    args, given = cli.parse(build_parser(), argv)
    if args.compare:
        return compare(args, given)
    if args.date_probe:
        return probe_dates(args, given)
    if args.attack:
        return attack(args, given)
    return evaluate(args, given)


# ---- the modes ----------------------------------------------------------------------------------------


def evaluate(args: argparse.Namespace, given: Collection[str]) -> int:
    """Ask a model every question. The results are printed, and written as JSON and as a page."""
    # ---- What can be checked without a model ----
    check_flags(args)
    if "temperature" in given and not args.samples:
        args.samples = 1
    output = args.output or output_files.new_results(args.model_path or args.lmstudio_model or "server")
    report = output_files.report_path(args.report, output)
    settings = settings_of(EvalSettings, args, output=output)
    output_files.check_results(settings, with_base=bool(args.base_model))
    output_files.check_report(report, [output], may_exist=args.overwrite or args.resume)
    if args.probes is None:
        questions = question_files.read(args.test_file, args.limit, args.seed)
    else:
        questions = probe_examples.read(args.probes, args.facts, args.limit, args.seed, args.cutoff)
    baselines = results_file.read_baselines(args.baseline, questions.examples, settings)
    results = finished.read(settings, questions, args.model_path, args.system_prompt)
    base = args.base_model and base_names.as_trained(args.base_model, args.model_path)
    known = finished.read_bases(settings, questions, base) if base else []
    if results and all(known):
        return report_finished(results, [*filter(None, known), *baselines], output, report)

    # ---- Settings, judge, base, model ----
    table = print_settings(args, given, questions, output, report)
    if args.use_lmstudio and args.judge_url:
        # A judge is checked on hundreds of answers: first see that there is a model to ask at all.
        with backends.opened(settings, None):
            pass
    judge, grade = llm_judge.grader(args.judge_url, args.judge_model, args.timeout)
    task = runner.Task(settings, table, questions, judge, grade)
    bases = runner.evaluate_base(task, base, known) if base else []
    baselines = bases + baselines
    if results:  # only the base was left to ask
        results_file.set_baselines(results, baselines)
        results_file.write(output, results)
    else:
        results = runner.evaluate(task, args.model_path, args.system_prompt, output, baselines)

    # ---- Output: every file before anything is printed ----
    if report:
        html_page.write_report(report, results, baselines)
    print("\n" + console.evaluation_text(results))
    if results["baselines"]:
        print("\n" + comparison_text.beside_baselines(results))
    print(f"\nResults: {paths.shown(output)}")
    if report:
        print(f"Report: {paths.shown(report)} (open it in a browser)")
    rows = [row for evaluated in (results, *bases) for row in evaluated["results"]]
    if errors := finished.errors(rows):
        count = sum(1 + len(row["samples"]) for row in rows)
        # Each question is asked once for each sample and base.
        once = count == len(results["results"])
        asked = "question" if count == 1 else "questions"
        missing = f"{count} {asked} got no reply" if once else f"{count} replies did not come"
        they, them = ("It counts", "it") if len(errors) == 1 else ("They count", "them")
        cli.warn(
            f"{len(errors)} of {missing}, the first: {errors[0]}\n"
            f"{they} as failed above. To ask {them} again: the same command with "
            f"--output {paths.quoted(output)} --resume"
        )
        return EXIT_SOME_FAILED
    return exit_code(results, bases)


def compare(args: argparse.Namespace, given: Collection[str]) -> int:
    """--compare: the first results against each other one, with every verdict that differs."""
    if len(args.compare) < 2:
        raise UserError("--compare needs two results files or more.")
    check_mode(args, given)
    first, *others = every = [results_file.read(path) for path in args.compare]
    report = output_files.report_path(args.report, args.compare[0])
    output_files.check_report(report, args.compare, may_exist=args.overwrite or args.resume)
    text = comparison_text.side_by_side(args.compare, every, args.verbose)
    for path, other in zip(args.compare[1:], others, strict=True):
        results_file.warn_of_other_figures(path, other, results_file.asked_and_graded(first))
    if report:
        html_page.write_report(report, first, others)
    print(text)
    if report:
        print(f"\nReport: {paths.shown(report)}")
    return cli.EXIT_OK


def probe_dates(args: argparse.Namespace, given: Collection[str]) -> int:
    """--date_probe: what a model's states tell of the bank's facts; printed, drawn and saved."""
    if not args.model_path:
        raise UserError("--date_probe needs --model_path: the folder or hub name of a model.")
    date_probe.check(args.model_path)
    check_mode(args, given)
    picture = output_files.date_probe_picture(args.output, args.model_path, args.cutoff, args.overwrite)
    probe = date_probe.probe_model(args.model_path, settings_of(BackendSettings, args), args.cutoff)
    figures = date_probe.figures(probe, args.model_path, args.cutoff)
    write_text(picture.with_suffix(".json"), json_text(figures, indent=1) + "\n")
    date_probe_text.draw(probe, picture, f"{args.model_path}, cutoff {args.cutoff}")
    print(date_probe_text.text(probe, args.model_path, args.cutoff))
    print(f"\nPicture: {paths.shown(picture)}, figures: {paths.shown(picture.with_suffix('.json'))}")
    return cli.EXIT_OK


def attack(args: argparse.Namespace, given: Collection[str]) -> int:
    """--attack relearn: what a tuning on a few answered facts brings out; printed, saved and drawn."""
    # ---- What can be checked without a model ----
    base = relearning.check(args.model_path, args.base_model, args.use_lmstudio)
    check_mode(args, given)
    if "max_tokens" not in given:
        args.max_tokens = relearning.MAX_TOKENS
    output = output_files.relearning_results(args.output, args.model_path, args.cutoff)
    picture = output.with_suffix(".png")
    report = output_files.report_path(args.report, output)
    settings = settings_of(EvalSettings, args, output=output, samples=None)
    output_files.check_results(settings, with_base=False)
    require_absent(picture, args.overwrite or args.resume)
    output_files.check_report(report, [output], may_exist=args.overwrite or args.resume)
    taught = relearning.taught_facts(args.cutoff)
    questions = relearning.questions(args.cutoff, args.limit, args.seed)
    results = finished.read(settings, questions, args.model_path, None)

    # ---- The model as it is, then tuned ----
    table = print_settings(args, given, questions, output, report)
    judge, grade = llm_judge.grader(args.judge_url, args.judge_model, args.timeout)
    task = runner.Task(settings, table, questions, judge, grade)
    results = results or runner.evaluate(task, args.model_path, None, output)
    relearning.attack(task, taught, args.model_path, base, results)

    # ---- Output ----
    relearning_text.draw(results, picture)
    if report:
        html_page.write_report(report, results)
    print("\n" + relearning_text.text(results))
    print(f"\nResults: {paths.shown(output)}, picture: {paths.shown(picture)}")
    if report:
        print(f"Report: {paths.shown(report)} (open it in a browser)")
    return cli.EXIT_OK


# ---- parts of an evaluation ---------------------------------------------------------------------------


def print_settings(
    args: argparse.Namespace, given: Collection[str], questions: Questions, output: Path, report: Path | None
) -> dict[str, cli.Setting]:
    """Print every setting with its source, and how many questions there are; return the settings."""
    made_from = "made from model and cutoff" if args.attack else "made from model and time"
    resolved = {"output": (paths.shown(output), "flag" if args.output else made_from)}
    if questions.forms:
        resolved["probes"] = (", ".join(questions.forms), "flag")
    elif args.attack:
        resolved["facts"] = (", ".join(questions.data), "default")
    else:
        resolved["test_file"] = (", ".join(questions.data), "flag" if args.test_file else "default")
    if report:
        resolved["report"] = (str(report), "flag")
    used = used_flags(args)
    shown = argparse.Namespace(**{name: value for name, value in vars(args).items() if name in used})
    variable = "LMSTUDIO_HOST" if os.environ.get("LMSTUDIO_HOST") else "LMSTUDIO_PORT"
    table = cli.print_settings("Evaluation settings", shown, given, {"lmstudio_url": variable}, resolved)
    counts = count_sides(questions.examples)
    chat = f" + {counts['chat']} chat" if counts["chat"] else ""
    print(f"Questions: {counts['retain']} retain + {counts['unlearn']} unlearn{chat}", flush=True)
    # What kills the process leaves it no time to say this.
    cli.progress(
        "If this is interrupted, resume it with the same command and "
        f"--output {paths.quoted(output)} --resume"
    )
    return table


def report_finished(results: Results, baselines: Sequence[Results], output: Path, report: Path | None) -> int:
    """--resume of a finished evaluation: nothing is asked, but it is compared and reported.

    baselines: those of the command; without any, the comparisons in the results stay.
    """
    print(f"{paths.shown(output)} is complete; nothing is left to ask.")
    if baselines:
        before = results["baselines"]
        results_file.set_baselines(results, baselines)
        if results["baselines"] != before:
            results_file.write(output, results)
        print("\n" + comparison_text.beside_baselines(results))
    if report:
        html_page.write_report(report, results, baselines)
        print(f"Report: {paths.shown(report)} (open it in a browser)")
    return exit_code(results)


def exit_code(results: Results, bases: Sequence[Results] = ()) -> int:
    """EXIT_NOTHING_ANSWERED if the model answered nothing at all; that is said of a base as well."""
    if silent := [results_file.label(one) for one in (results, *bases) if metrics.is_silent(one["results"])]:
        cli.warn(
            f"{', '.join(silent)} answered nothing: every reply is empty or a thought without an answer."
        )
    return EXIT_NOTHING_ANSWERED if metrics.is_silent(results["results"]) else cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
