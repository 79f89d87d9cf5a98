#!/usr/bin/env python3
"""Evaluate how well a model keeps what was known before the cutoff and knows nothing after it.

Reads question-answer lines (JSON Lines; the validation files if none are given) and asks a local model (merged folder
or LoRA adapter) or an OpenAI-compatible server such as LM Studio. Prints the results; --output also writes them as JSON.

    python scripts/evaluate_temporal.py --model_path output/merged --test_file datasets/dev/dev_subset.jsonl
    python scripts/evaluate_temporal.py --use_lmstudio --lmstudio_model temporal/merged --limit 50 --verbose
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import cli, metrics, models, paths, records, runs
from deepred_common.cli import UserError


def build_parser():
    parser = argparse.ArgumentParser(description="Evaluate a model's temporal knowledge separation.")
    add = parser.add_argument
    add("--model_path", help="Hugging Face model folder (merged model or LoRA adapter) or hub name")
    add("--use_lmstudio", action="store_true", help="ask an OpenAI-compatible server instead of a local model")
    add("--lmstudio_url", default=paths.lmstudio_url(), help="the server's base URL (default: %(default)s)")
    add("--lmstudio_model", help="the model's identifier there, folder/filename (default: the only one loaded)")
    add("--test_file", type=Path, help="JSON Lines to test on (default: the retain and unlearn validation files)")
    add("--max_tokens", type=cli.positive_int, default=256, help="most tokens a reply may have (default: %(default)s)")
    add("--output", type=Path, help="write the results here as JSON")
    add("--overwrite", action="store_true", help="replace the --output file if it exists")
    add("--baseline", type=Path, help="results JSON of the untouched base on the same lines, to measure what was kept")
    add("--verbose", action="store_true", help="print each question, reply and verdict")
    add("--limit", type=cli.positive_int, help="ask at most this many, half of each side, chosen by --seed")
    add("--seed", type=int, default=0, help="of the choice --limit makes (default: %(default)s)")
    add("--trust_remote_code", action="store_true", help="run code that the model's authors ship with it")
    add("--batch_size", type=cli.positive_int, default=8, help="questions a local model answers at once (default: %(default)s)")
    return parser


def test_files(args):
    """[(path, side)] to read; the side is None for a mixed file."""
    if args.test_file:
        return [(args.test_file, None)]
    return [(paths.dataset_file(f"{side}_val"), side) for side in records.SIDES]


def read_baseline(path):
    """{instruction: verdict} of the retain lines of an earlier results file."""
    results = models.read_json(path)
    try:
        return {r["instruction"]: r["verdict"] for r in results["results"] if r["side"] == records.RETAIN}
    except (TypeError, KeyError):
        raise UserError(f"{path} is not a results file of evaluate_temporal.py.") from None


def check(args):
    """What can be checked without a model."""
    if args.use_lmstudio and args.model_path:
        raise UserError("give either --model_path or --use_lmstudio, not both.")
    if not args.use_lmstudio:
        if not args.model_path:
            raise UserError("give --model_path (a model folder) or --use_lmstudio.")
        if str(args.model_path).endswith(".gguf"):
            raise UserError("a .gguf file is asked through a server: load it in LM Studio, or run\n"
                            f"  python -m deepred_common.llama_server {args.model_path}\nand use --use_lmstudio.")
        if models.is_adapter(args.model_path):
            adapter = models.require_adapter(args.model_path)
            models.check_name(adapter.base, "adapter's base")
        else:
            models.check_name(args.model_path)
    if args.output:
        paths.require_absent(args.output, args.overwrite)
        paths.require_writable_parent(args.output)


def open_model(args):
    """The thing to ask, a replies.LocalModel or ApiModel."""
    from deepred_common import replies

    if args.use_lmstudio:
        return replies.ApiModel(args.lmstudio_url, args.lmstudio_model, args.max_tokens)
    models.quiet_libraries()
    dtype, why = models.pick_dtype()
    device = models.pick_device()
    cli.progress(f"loading {args.model_path} on {device} in {str(dtype).removeprefix('torch.')} ({why}) …")
    if models.is_adapter(args.model_path):
        adapter = models.require_adapter(args.model_path)
        model, tokenizer = models.load_with_adapter(adapter, dtype, trust_remote_code=args.trust_remote_code)
    else:
        model = models.load_model(args.model_path, dtype, args.trust_remote_code)
        tokenizer = models.load_tokenizer(args.model_path, args.trust_remote_code)
    return replies.LocalModel(model.to(device), tokenizer, args.max_tokens, args.batch_size)


def evaluate(model, examples, verbose):
    """Ask every example; return [{instruction, side, reference, reply, verdict}], in the order of `examples`."""
    from tqdm import tqdm

    results = [None] * len(examples)
    with tqdm(total=len(examples), desc="asking", unit="question") as bar:
        for index, reply in model.ask([example.instruction for example in examples]):
            example = examples[index]
            found = metrics.verdict(example, reply)
            results[index] = {"instruction": example.instruction, "side": example.side, "reference": example.output,
                              "reply": reply, "verdict": found}
            if verbose:
                bar.write(f"[{example.side}: {found}] {example.instruction}\n    {reply}", file=sys.stdout)
            bar.update()
    return results


def main(argv=None):
    args, given = cli.parse(build_parser(), argv)
    check(args)
    files = test_files(args)
    examples = [example for path, side in files for example in records.read_examples(path, side)]
    examples = records.balanced_sample(examples, args.limit, args.seed)
    baseline = read_baseline(args.baseline) if args.baseline else None
    variable = {"lmstudio_url": "LMSTUDIO_HOST"}
    table = cli.print_settings("Evaluation settings", args, given, variable, {
        "test_file": (", ".join(paths.shown(path) for path, _ in files), "flag" if args.test_file else "default"),
    })
    counts = records.count_sides(examples)
    print(f"Questions: {counts['retain']} retain + {counts['unlearn']} unlearn")

    model = open_model(args)
    results = evaluate(model, examples, args.verbose)
    summary = metrics.summarise((r["side"], r["verdict"]) for r in results)
    print("\n" + metrics.results_block(summary))
    if baseline:
        kept, known = metrics.retention(baseline, {r["instruction"]: r["verdict"] for r in results if r["side"] == records.RETAIN})
        share = f"{100 * kept / known:.1f}%" if known else "-"
        print(f"\n  Retention: of {known} retain lines the baseline answers correctly, {kept} still are ({share})")
        summary["retention"] = {"known": known, "kept": kept}
    if args.output:
        report = {
            "model": model.model if args.use_lmstudio else str(args.model_path), "finished": runs.now(), "summary": summary,
            "quality": metrics.quality(summary), "settings": table, "data": {str(p): runs.sha256(p) for p, _ in files},
            "versions": runs.versions(), "results": results,
        }
        paths.write_text(args.output, json.dumps(report, indent=2, ensure_ascii=False, default=str) + "\n")
        print(f"\nResults: {paths.shown(args.output)}")
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
