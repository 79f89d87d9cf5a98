#!/usr/bin/env python3
"""Evaluate how well a model keeps what was known before the cutoff and knows nothing after it.

Reads question-answer lines (JSON Lines; the validation files if none are given) and asks a local model (merged folder or
LoRA adapter), a GGUF file (served by llama.cpp meanwhile) or an OpenAI-compatible server such as LM Studio. Prints the
results and writes them as JSON; --report also as a page. --compare only sets earlier results side by side.

    python scripts/evaluate_temporal.py --model_path output/merged --test_file datasets/dev/dev_subset.jsonl
    python scripts/evaluate_temporal.py --model_path output/merged.gguf --base_model output/base/SmolLM2-135M-Instruct --report
    python scripts/evaluate_temporal.py --use_lmstudio --lmstudio_model temporal/merged --limit 50 --verbose
    python scripts/evaluate_temporal.py --compare output/eval-merged.json output/eval-gguf.json
"""

import argparse
import contextlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import chat, cli, devices, journal, judge, metrics, models, paths, printed, records, report, runs
from deepred_common import results as results_files
from deepred_common.cli import UserError

EXIT_SOME_FAILED = 1
BASE_SUFFIXES = ("base", "base-prompt")  # the files of --base_model, untouched and with a prompt that states the cutoff


def build_parser():
    parser = argparse.ArgumentParser(description="Evaluate a model's temporal knowledge separation.")
    add = parser.add_argument_group("what is asked").add_argument
    add("--model_path", help="model folder, LoRA adapter folder, .gguf file or hub name")
    add("--use_lmstudio", action="store_true", help="ask an OpenAI-compatible server instead of a local model")
    add("--lmstudio_url", default=paths.lmstudio_url(), help="the server's base URL (default: %(default)s)")
    add("--lmstudio_model", help="the model's identifier there, folder/filename (default: the only one loaded)")
    add("--test_file", type=Path, help="JSON Lines to test on (default: the retain and unlearn validation files)")
    add("--limit", type=cli.positive_int, help="ask at most this many, half of each side, chosen by --seed")
    add("--seed", type=int, default=0, help="of the choice --limit makes (default: %(default)s)")
    add("--max_tokens", type=cli.positive_int, default=256, help="most tokens a reply may have (default: %(default)s)")
    add("--system_prompt", metavar="TEXT", help="put a system prompt before every question")
    add("--cutoff", type=cutoff_date, default="1969-07-20", metavar="YYYY-MM-DD", help="for the breakdown by date (default: %(default)s)")
    add = parser.add_argument_group("what comes out").add_argument
    add("--output", type=Path, help="results JSON (default: output/eval-<model>-<time>.json)")
    add("--report", type=Path, nargs="?", const="", metavar="HTML", help="also write a page to look at (default: beside the results)")
    add("--verbose", action="store_true", help="print each question, reply and verdict")
    add("--overwrite", action="store_true", help="replace --output if it exists")
    add("--resume", action="store_true", help="go on with an evaluation into --output that was cut short")
    add = parser.add_argument_group("beside what").add_argument
    add("--baseline", type=Path, nargs="+", default=[], metavar="JSON", help="results of the untouched base on the same lines (and of others)")
    add("--base_model", metavar="MODEL", help="evaluate this untouched base first, plain and with only a prompt that states the cutoff")
    add("--compare", type=Path, nargs="+", metavar="JSON", help="ask nothing: set these results side by side, the first against each other one")
    add = parser.add_argument_group("how").add_argument
    add("--batch_size", type=cli.positive_int, default=32, help="questions a local model answers at once (default: %(default)s)")
    add("--in_flight", type=cli.positive_int, default=8, help="requests a server gets at once (default: %(default)s)")
    add("--timeout", type=cli.positive_int, default=300, help="seconds to wait for a server's reply (default: %(default)s)")
    add("--llama_cpp_path", type=Path, default=paths.ROOT / "llama.cpp", help="where to look for a built llama-server, for a .gguf file")
    add("--judge_url", metavar="URL", help="let the model behind this OpenAI-compatible server grade answers")
    add("--judge_model", help="its identifier there (default: the only one loaded)")
    add("--trust_remote_code", action="store_true", help="run code that the model's authors ship with it")
    return parser


def cutoff_date(text):
    try:
        return datetime.strptime(text, "%Y-%m-%d").date().isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 1969-07-20") from None


# ---- before any model ---------------------------------------------------------------------------------------------------

def test_files(args):
    """[(path, side)] to read; the side is None for a mixed file."""
    if args.test_file:
        return [(args.test_file, None)]
    return [(paths.dataset_file(f"{side}_val"), side) for side in records.SIDES]


def kind_of(model_path):
    """What --model_path is: "gguf", "adapter" or "folder" (a hub name is one too)."""
    if str(model_path).endswith(".gguf"):
        return "gguf"
    return "adapter" if models.is_adapter(model_path) else "folder"


def check_model(name, role="model"):
    """What can be checked of a local model before anything is loaded."""
    kind = kind_of(name)
    if kind == "gguf":
        if not Path(name).is_file():
            raise UserError(f"the {role} {name} does not exist.")
    elif kind == "adapter":
        models.check_name(models.require_adapter(name).base, "adapter's base")
    else:
        models.check_name(name, role)


def check(args):
    """What can be checked without a model; works out --output and --report."""
    if args.use_lmstudio and args.model_path:
        raise UserError("give either --model_path or --use_lmstudio, not both.")
    if not args.use_lmstudio and not args.model_path:
        raise UserError("give --model_path (a model folder or .gguf file), --use_lmstudio, or --compare.")
    if args.model_path:
        check_model(args.model_path)
    if args.base_model:
        check_model(args.base_model, "base model")
    if args.output is None:
        if args.resume:
            raise UserError("--resume needs the --output of the evaluation that was cut short.")
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(args.model_path or args.lmstudio_model or "server").name)
        args.output = paths.OUTPUT / f"eval-{stem}-{datetime.now():%Y%m%d_%H%M%S}.json"
        if cut_short := sorted(paths.OUTPUT.glob(f"eval-{stem}-*.replies.jsonl")):
            before = cut_short[-1].with_name(cut_short[-1].name.replace(".replies.jsonl", ".json"))
            cli.warn(f"{paths.shown(cut_short[-1])} holds the replies of an evaluation that was cut short. This is a new one;\n"
                     f"to go on with that one, add --output {paths.shown(before)} --resume")
    outputs = [args.output, *(base_output(args, suffix) for suffix in BASE_SUFFIXES if args.base_model)]
    for output in outputs:
        if output.is_dir():
            raise UserError(f"the output {output} is a folder; a file name is needed.")
        paths.require_absent(output, args.overwrite or args.resume)
        if journal_of(output).exists() and not (args.resume or args.overwrite):
            raise UserError(f"{paths.shown(journal_of(output))} holds the replies of an evaluation that was cut short.\n"
                            "Add --resume to go on with it, or --overwrite to start anew.")
    paths.require_writable_parent(args.output)
    if args.report is not None:
        if str(args.report) in ("", "."):
            args.report = args.output.with_suffix(".html")
        check_report(args, [args.output])


def journal_of(output):
    return output.with_suffix(".replies.jsonl")


def base_output(args, suffix):
    return args.output.with_name(f"{args.output.stem}.{suffix}.json")


def check_report(args, others):
    paths.require_absent(args.report, args.overwrite or args.resume)
    if any(args.report.resolve() == other.resolve() for other in others):
        raise UserError(f"--report {args.report} would replace the results; give it another name.")
    paths.require_writable_parent(args.report)


def check_baselines(baselines, examples):
    """The results files of --baseline; UserError if one shares no line with what will be asked, a warning if it lacks some."""
    found = [results_files.read(path) for path in baselines]
    asked = {(example.side, example.instruction) for example in examples}
    for path, results in zip(baselines, found, strict=True):
        common = len(asked & {(row["side"], row["instruction"]) for row in results["results"]})
        if not common:
            raise UserError(f"{path} has no question in common with what is to be asked.")
        if common < len(asked):
            cli.warn(f"{path} holds {common} of the {len(asked)} questions; what is paired counts those only.")
    return found


# ---- asking ---------------------------------------------------------------------------------------------------------------

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
            raise cli.Interrupted(f"{kept(rows)} replies are kept. {go_on(args)}") from None
        except UserError as error:
            raise UserError(f"{error}\n{kept(rows)} replies are kept. {go_on(args)}") from error
    return rows


def kept(rows):
    return sum(row is not None and not row["error"] for row in rows)


def go_on(args):
    return f"Go on with the same command and --output {paths.shown(args.output)} --resume"


def row_of(task, number, reply):
    """One row of the results: the example, its reply and the verdict."""
    example = task.examples[number]
    return {
        "id": number, "instruction": example.instruction, "side": example.side, "reference": example.output,
        "true_answer": metrics.true_answer(example), "date": records.date_of(example), "field": example.metadata.get("field"),
        "form": metrics.question_form(example.instruction), "reply": reply.text, "finish": reply.finish,
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
    curve = metrics.refusal_curve(rows)
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


# ---- the printed page ------------------------------------------------------------------------------------------------------

def print_results(found):
    curve = found["curve"] and metrics.curve_of(found["curve"])
    print("\n" + printed.results_block(found["summary"]))
    print("\n" + printed.details_block(found["summary"], curve))
    near = printed.near_lines(found["breakdown"])
    if near:
        print("\n" + near)
    if found["baselines"]:
        columns = [(results_files.label(found), found["summary"], None)]
        print("\n" + printed.comparison_block(columns + [(b["label"], b["summary"], b["against"]) for b in found["baselines"]]))
        retained = found["baselines"][0]["against"]["retention"]
        share = f" ({100 * retained['count'] / retained['known']:.1f}%)" if retained["known"] else ""
        print(f"\n  Retention: of {retained['known']} retain lines the baseline answers correctly, {retained['count']} still are{share}")


def compare(args):
    """--compare: the first results against each other one, with every flip."""
    found = [results_files.read(path) for path in args.compare]
    if len(found) < 2:
        raise UserError("--compare needs two results files or more.")
    if args.report is not None:
        if str(args.report) in ("", "."):
            args.report = args.compare[0].with_suffix(".html")
        check_report(args, args.compare)
    first = found[0]
    columns = [(results_files.label(first), first["summary"], None)]
    for path, other in zip(args.compare[1:], found[1:], strict=True):
        pairs = results_files.paired(first, other)
        if not pairs:
            raise UserError(f"{args.compare[0]} and {path} have no question in common.")
        columns.append((results_files.label(other), other["summary"], metrics.against(pairs)))
        flips = [(row, before) for row, before in pairs if row["verdict"] != before["verdict"]]
        print(f"{results_files.label(first)} ({args.compare[0]}) against {results_files.label(other)} ({path}): "
              f"{len(pairs)} lines in common, {len(flips)} verdicts differ")
        for row, before in flips:
            print(f"  {row['side']}: {before['verdict']} -> {row['verdict']}  {row['instruction']}")
            if args.verbose:
                print(f"      {before['reply']}\n   -> {row['reply']}")
        print()
    print(printed.comparison_block(columns))
    if args.report is not None:
        report.write_report(args.report, first, found[1:])
        print(f"\nReport: {paths.shown(args.report)}")
    return cli.EXIT_OK


def main(argv=None):
    args, given = cli.parse(build_parser(), argv)
    if args.compare:
        return compare(args)
    check(args)
    if args.resume and not args.overwrite and args.output.exists() and not journal_of(args.output).exists():
        print(f"{paths.shown(args.output)} is complete; nothing is left to ask.")
        return cli.EXIT_OK
    files = test_files(args)
    examples = [example for path, side in files for example in records.read_examples(path, side)]
    examples = records.balanced_sample(examples, args.limit, args.seed)
    baselines = check_baselines(args.baseline, examples)
    variable = {"lmstudio_url": "LMSTUDIO_HOST"}
    table = cli.print_settings("Evaluation settings", args, given, variable, {
        "test_file": (", ".join(paths.shown(path) for path, _ in files), "flag" if args.test_file else "default"),
        "output": (paths.shown(args.output), "flag" if "output" in given else "made from model and time"),
    })
    counts = records.count_sides(examples)
    print(f"Questions: {counts['retain']} retain + {counts['unlearn']} unlearn", flush=True)

    data = {paths.shown(path): runs.sha256(path) for path, _ in files}
    if args.model_path is None and args.judge_url:
        # A judge is checked on hundreds of answers: first see that there is a model to ask at all.
        with opened(args, None, args.system_prompt):
            pass
    task = Task(args, table, examples, data, *judge.grader(args.judge_url, args.judge_model, args.timeout))
    bases = evaluate_base(task) if args.base_model else []
    baselines = bases + baselines
    found = evaluate(task, args.model_path, args.system_prompt, args.output, baselines)
    print_results(found)
    print(f"\nResults: {paths.shown(args.output)}")
    if args.report is not None:
        report.write_report(args.report, found, baselines)
        print(f"Report: {paths.shown(args.report)} (open it in a browser)")
    asked = [row for one in (found, *bases) for row in one["results"]]
    failed = [row for row in asked if row["error"]]
    if failed:
        cli.warn(f"{len(failed)} of {len(asked)} questions got no reply, the first: {failed[0]['error']}\n"
                 f"They count as failed above. To ask them again: the same command with --output {paths.shown(args.output)} --resume")
        return EXIT_SOME_FAILED
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
