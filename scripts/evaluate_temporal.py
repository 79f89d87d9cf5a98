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

import re
import sys
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import cli, paths, provenance
from deepred_common.cli import UserError
from deepred_common.evaluation import comparison, llm_judge, metrics, results_file, runner
from deepred_common.examples import SIDES, balanced_sample, count_sides, read_examples
from deepred_common.files import require_absent, require_writable_parent
from deepred_common.inference import backends
from deepred_common.models import folders
from deepred_common.reporting import console, html_page

EXIT_SOME_FAILED = 1


def build_parser():
    parser = cli.Parser(description="Evaluate a model's temporal knowledge separation.")
    add = parser.add_argument_group("what is asked").add_argument
    add("--model_path", help="model folder, LoRA adapter folder, .gguf file or hub name")
    add(
        "--use_lmstudio", action="store_true", help="ask an OpenAI-compatible server instead of a local model"
    )
    add("--lmstudio_url", default=paths.lmstudio_url(), help="the server's base URL (default: %(default)s)")
    add(
        "--lmstudio_model",
        help="the model's identifier there, folder/filename (default: the only one loaded)",
    )
    add(
        "--test_file",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="JSON Lines to test on, one file or more (default: the retain and unlearn validation files)",
    )
    add("--limit", type=cli.positive_int, help="ask at most this many, half of each side, chosen by --seed")
    add("--seed", type=int, default=0, help="of the choice --limit makes (default: %(default)s)")
    add(
        "--max_tokens",
        type=cli.positive_int,
        default=256,
        help="most tokens a reply may have (default: %(default)s)",
    )
    add("--system_prompt", metavar="TEXT", help="put a system prompt before every question")
    add(
        "--cutoff",
        type=cli.day,
        default="1969-07-20",
        metavar="YYYY-MM-DD",
        help="for the breakdown by date (default: %(default)s)",
    )
    add = parser.add_argument_group("what comes out").add_argument
    add("--output", type=Path, help="results JSON (default: output/eval-<model>-<time>.json)")
    add(
        "--report",
        type=Path,
        nargs="?",
        const="",
        metavar="HTML",
        help="also write a page to look at (default: beside the results)",
    )
    add("--verbose", action="store_true", help="print each question, reply and verdict")
    add("--overwrite", action="store_true", help="replace --output if it exists")
    add("--resume", action="store_true", help="go on with an evaluation into --output that was cut short")
    add = parser.add_argument_group("beside what").add_argument
    add(
        "--baseline",
        type=Path,
        nargs="+",
        default=[],
        metavar="JSON",
        help="results of the untouched base on the same lines (and of others)",
    )
    add(
        "--base_model",
        metavar="MODEL",
        help="evaluate this untouched base first, plain and with only a prompt that states the cutoff",
    )
    add(
        "--compare",
        type=Path,
        nargs="+",
        metavar="JSON",
        help="ask nothing: set these results side by side, the first against each other one",
    )
    add = parser.add_argument_group("how").add_argument
    add(
        "--batch_size",
        type=cli.positive_int,
        default=32,
        help="questions a local model answers at once (default: %(default)s)",
    )
    add(
        "--in_flight",
        type=cli.positive_int,
        default=8,
        help="requests a server gets at once (default: %(default)s)",
    )
    add(
        "--timeout",
        type=cli.positive_int,
        default=300,
        help="seconds to wait for a server's reply (default: %(default)s)",
    )
    add(
        "--llama_cpp_path",
        type=Path,
        default=paths.ROOT / "llama.cpp",
        help="where to look for a built llama-server, for a .gguf file",
    )
    add("--judge_url", metavar="URL", help="let the model behind this OpenAI-compatible server grade answers")
    add("--judge_model", help="its identifier there (default: the only one loaded)")
    add("--trust_remote_code", action="store_true", help="run code that the model's authors ship with it")
    return parser


# ---- before any model ---------------------------------------------------------------------------------------------------


def test_files(args):
    """[(path, side)] to read; the side is None for a mixed file."""
    if args.test_file:
        return [(path, None) for path in args.test_file]
    return [(paths.dataset_file(f"{side}_val"), side) for side in SIDES]


def check_model(name, role="model"):
    """What can be checked of a local model before anything is loaded."""
    kind = backends.kind_of(name)
    if kind == "gguf":
        if not Path(name).is_file():
            raise UserError(f"the {role} {name} does not exist.")
    elif kind == "adapter":
        folders.check_name(folders.require_adapter(name).base, "adapter's base")
    else:
        folders.check_name(name, role)


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
            cli.warn(
                f"{paths.shown(cut_short[-1])} holds the replies of an evaluation that was cut short. This is a new one;\n"
                f"to go on with that one, add --output {paths.shown(before)} --resume"
            )
    outputs = [
        args.output,
        *(runner.base_output(args, suffix) for suffix in runner.BASE_SUFFIXES if args.base_model),
    ]
    for output in outputs:
        if output.is_dir():
            raise UserError(f"the output {output} is a folder; a file name is needed.")
        require_absent(output, args.overwrite or args.resume)
        if runner.journal_of(output).exists() and not (args.resume or args.overwrite):
            raise UserError(
                f"{paths.shown(runner.journal_of(output))} holds the replies of an evaluation that was cut short.\n"
                "Add --resume to go on with it, or --overwrite to start anew."
            )
    require_writable_parent(args.output)
    if args.report is not None:
        if str(args.report) in ("", "."):
            args.report = args.output.with_suffix(".html")
        check_report(args, [args.output])


def check_report(args, others):
    require_absent(args.report, args.overwrite or args.resume)
    if any(args.report.resolve() == other.resolve() for other in others):
        raise UserError(f"--report {args.report} would replace the results; give it another name.")
    require_writable_parent(args.report)


def check_baselines(baselines, examples):
    """The results files of --baseline; UserError if one shares no line with what will be asked, a warning if it lacks some."""
    found = [results_file.read(path) for path in baselines]
    asked = {(example.side, example.instruction) for example in examples}
    for path, results in zip(baselines, found, strict=True):
        common = len(asked & {(row["side"], row["instruction"]) for row in results["results"]})
        if not common:
            raise UserError(f"{path} has no question in common with what is to be asked.")
        if common < len(asked):
            cli.warn(
                f"{path} holds {common} of the {len(asked)} questions; what is paired counts those only."
            )
    return found


# ---- the printed page ------------------------------------------------------------------------------------------------------


def print_results(found):
    curve = found["curve"] and metrics.curve_of(found["curve"])
    print("\n" + console.results_block(found["summary"]))
    print("\n" + console.details_block(found["summary"], curve))
    for text in (console.near_lines(found["breakdown"]), console.probe_lines(found["breakdown"])):
        if text:
            print("\n" + text)
    if found["baselines"]:
        columns = [(results_file.label(found), found["summary"], None)]
        print(
            "\n"
            + console.comparison_block(
                columns + [(b["label"], b["summary"], b["against"]) for b in found["baselines"]]
            )
        )
        retained = found["baselines"][0]["against"]["retention"]
        share = f" ({100 * retained['count'] / retained['known']:.1f}%)" if retained["known"] else ""
        print(
            f"\n  Retention: of {retained['known']} retain lines the baseline answers correctly, {retained['count']} still are{share}"
        )


def compare(args):
    """--compare: the first results against each other one, with every flip."""
    found = [results_file.read(path) for path in args.compare]
    if len(found) < 2:
        raise UserError("--compare needs two results files or more.")
    if args.report is not None:
        if str(args.report) in ("", "."):
            args.report = args.compare[0].with_suffix(".html")
        check_report(args, args.compare)
    first = found[0]
    columns = [(results_file.label(first), first["summary"], None)]
    for path, other in zip(args.compare[1:], found[1:], strict=True):
        pairs = comparison.paired(first, other)
        if not pairs:
            raise UserError(f"{args.compare[0]} and {path} have no question in common.")
        columns.append((results_file.label(other), other["summary"], comparison.against(pairs)))
        flips = [(row, before) for row, before in pairs if row["verdict"] != before["verdict"]]
        print(
            f"{results_file.label(first)} ({args.compare[0]}) against {results_file.label(other)} ({path}): "
            f"{len(pairs)} lines in common, {len(flips)} verdicts differ"
        )
        for row, before in flips:
            print(f"  {row['side']}: {before['verdict']} -> {row['verdict']}  {row['instruction']}")
            if args.verbose:
                print(f"      {before['reply']}\n   -> {row['reply']}")
        print()
    print(console.comparison_block(columns))
    if args.report is not None:
        html_page.write_report(args.report, first, found[1:])
        print(f"\nReport: {paths.shown(args.report)}")
    return cli.EXIT_OK


def main(argv=None):
    args, given = cli.parse(build_parser(), argv)
    if args.compare:
        return compare(args)
    check(args)
    if (
        args.resume
        and not args.overwrite
        and args.output.exists()
        and not runner.journal_of(args.output).exists()
    ):
        print(f"{paths.shown(args.output)} is complete; nothing is left to ask.")
        return cli.EXIT_OK
    files = test_files(args)
    examples = [example for path, side in files for example in read_examples(path, side)]
    examples = balanced_sample(examples, args.limit, args.seed)
    baselines = check_baselines(args.baseline, examples)
    variable = {"lmstudio_url": "LMSTUDIO_HOST"}
    table = cli.print_settings(
        "Evaluation settings",
        args,
        given,
        variable,
        {
            "test_file": (
                ", ".join(paths.shown(path) for path, _ in files),
                "flag" if args.test_file else "default",
            ),
            "output": (paths.shown(args.output), "flag" if "output" in given else "made from model and time"),
        },
    )
    counts = count_sides(examples)
    print(f"Questions: {counts['retain']} retain + {counts['unlearn']} unlearn", flush=True)

    data = {paths.shown(path): provenance.sha256(path) for path, _ in files}
    if args.model_path is None and args.judge_url:
        # A judge is checked on hundreds of answers: first see that there is a model to ask at all.
        with backends.opened(args, None, args.system_prompt):
            pass
    task = runner.Task(
        args, table, examples, data, *llm_judge.grader(args.judge_url, args.judge_model, args.timeout)
    )
    bases = runner.evaluate_base(task) if args.base_model else []
    baselines = bases + baselines
    found = runner.evaluate(task, args.model_path, args.system_prompt, args.output, baselines)
    print_results(found)
    print(f"\nResults: {paths.shown(args.output)}")
    if args.report is not None:
        html_page.write_report(args.report, found, baselines)
        print(f"Report: {paths.shown(args.report)} (open it in a browser)")
    asked = [row for one in (found, *bases) for row in one["results"]]
    failed = [row for row in asked if row["error"]]
    if failed:
        cli.warn(
            f"{len(failed)} of {len(asked)} questions got no reply, the first: {failed[0]['error']}\n"
            f"They count as failed above. To ask them again: the same command with --output {paths.shown(args.output)} --resume"
        )
        return EXIT_SOME_FAILED
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
