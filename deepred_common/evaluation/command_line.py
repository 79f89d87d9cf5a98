"""The command line of evaluate_temporal.py: its flags, which go together, and settings made of them."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Collection
from typing import Any, TypeVar

from deepred_common import cli, paths
from deepred_common.cli import UserError
from deepred_common.dates import DEFAULT_CUTOFF
from deepred_common.evaluation import output_files
from deepred_common.evaluation.probes import forms
from deepred_common.foreign_text import whole_characters
from deepred_common.inference import backends
from deepred_common.inference.protocol import BackendSettings

Kind = TypeVar("Kind", bound=BackendSettings)


# {the flag of a mode: the flags that it uses}. Without one of these, questions are asked.
_MODES = {
    "compare": {"compare", "report", "overwrite", "resume", "verbose"},
    "date_probe": {"date_probe", "model_path", "cutoff", "output", "overwrite"}
    | {"batch_size", "trust_remote_code"},
    "attack": {"attack", "model_path", "base_model", "limit", "seed", "max_tokens", "cutoff"}
    | {"output", "report", "verbose", "overwrite", "resume"}
    | {"batch_size", "timeout", "judge_url", "judge_model", "trust_remote_code"},
}


def build_parser() -> cli.Parser:
    """The parser of evaluate_temporal.py. An empty lmstudio_url: the environment's is wrong (check_flags)."""
    parser = cli.Parser(description="Evaluate a model's temporal knowledge separation.")
    add = parser.add_argument_group("model and questions").add_argument
    add("--model_path", type=cli.model, help="model folder, LoRA adapter folder, .gguf file or hub name")
    add("--use_lmstudio", action="store_true", help="ask an OpenAI-compatible server, not a local model")
    url = ""
    with contextlib.suppress(UserError):
        url = paths.lmstudio_url()
    source = "default: %(default)s" if url else "no default: LMSTUDIO_HOST or LMSTUDIO_PORT is wrong"
    add("--lmstudio_url", default=url, help=f"the server's base URL ({source})")
    add("--lmstudio_model", help="its identifier there, folder/filename (default: the only one loaded)")
    add(
        "--test_file",
        type=cli.path,
        nargs="+",
        metavar="FILE",
        help="JSON Lines to test on, one file or more (default: the retain and unlearn validation files)",
    )
    add(
        "--probes",
        nargs="*",
        metavar="NAME",
        help="ask facts in several forms instead, to find one that leaks: all, or the quick ones if none is "
        f"named. The forms: {', '.join(form.name for form in forms.FORMS)}",
    )
    add(
        "--facts",
        type=cli.path,
        nargs="+",
        metavar="FILE",
        help="the facts that --probes asks (default: those of the bank that training holds out)",
    )
    add(
        "--limit",
        type=cli.positive_int,
        help="ask at most this many (--probes, --attack: facts), evenly of both sides, chosen by --seed; "
        "--probes takes facts first that the embedded base knows",
    )
    add(
        "--seed",
        type=cli.seed,
        default=0,
        help="for --limit's choice and for --samples (default: %(default)s)",
    )
    add(
        "--max_tokens",
        type=cli.positive_int,
        default=256,
        help="longest reply (default: %(default)s; --attack: 64)",
    )
    add(
        "--samples",
        type=cli.positive_int,
        metavar="N",
        help="also sample N replies to each question: does one of k leak, is one of k refused?",
    )
    add(
        "--temperature",
        type=cli.temperature,
        default=1.0,
        metavar="T",
        help="of the samples; alone it takes one sample (default: %(default)s)",
    )
    add(
        "--system_prompt",
        type=whole_characters,
        metavar="TEXT",
        help="put a system prompt before every question",
    )
    add(
        "--cutoff",
        type=cli.day,
        default=DEFAULT_CUTOFF,
        metavar="YYYY-MM-DD",
        help="the day from which the model should know nothing (default: %(default)s)",
    )
    add = parser.add_argument_group("output").add_argument
    add(
        "--output",
        type=cli.path,
        help="results JSON (default: output/eval-<model>-<time>.json; with --attack "
        "output/relearn-<model>-<cutoff>.json); with --date_probe a picture "
        "(default: output/date-probe-<model>-<cutoff>.png)",
    )
    add(
        "--report",
        type=cli.path,
        nargs="?",
        const=output_files.BESIDE_RESULTS,
        metavar="HTML",
        help="also write a page for the browser (default: beside the results)",
    )
    add("--verbose", action="store_true", help="print each question, reply and verdict")
    add("--overwrite", action="store_true", help="replace the output if it exists")
    add("--resume", action="store_true", help="resume an evaluation into --output that was cut short")
    add = parser.add_argument_group("comparison").add_argument
    add(
        "--baseline",
        type=cli.path,
        nargs="+",
        default=[],
        metavar="JSON",
        help="results of the untouched base on the same questions (and of others)",
    )
    add(
        "--base_model",
        type=cli.model,
        metavar="MODEL",
        help="evaluate this untouched base first, plain and with only a prompt that states the cutoff",
    )
    add(
        "--compare",
        type=cli.path,
        nargs="+",
        metavar="JSON",
        help="ask nothing: set these results side by side, the first against each other one",
    )
    add(
        "--date_probe",
        action="store_true",
        help="measure how well the hidden states of --model_path separate dates before and after the "
        "cutoff; for a tuned model, compare its refusals with that",
    )
    add(
        "--attack",
        choices=("relearn",),
        help="tune a copy of --model_path on a few answered facts, in memory, and see what else comes out",
    )
    add = parser.add_argument_group("how the model is asked and graded").add_argument
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
        type=cli.path,
        default=paths.ROOT / "llama.cpp",
        help="where to look for a built llama-server, for a .gguf file",
    )
    add("--judge_url", metavar="URL", help="let the model behind this OpenAI-compatible server grade answers")
    add("--judge_model", help="its identifier there (default: the only one loaded)")
    add("--trust_remote_code", action="store_true", help="run code that the model's authors ship with it")
    return parser


def used_flags(args: argparse.Namespace) -> set[str]:
    """The names of the flags that the chosen mode uses."""
    return next((used for mode, used in _MODES.items() if getattr(args, mode)), set(vars(args)))


def check_mode(args: argparse.Namespace, given: Collection[str]) -> None:
    """UserError for given flags that the chosen mode does not use: whoever gives one expects it to count."""
    if unused := sorted(set(given) - used_flags(args)):
        mode = next(mode for mode in _MODES if getattr(args, mode))
        flags = ", ".join(f"--{name}" for name in unused)
        raise UserError(f"--{mode} does not use {flags}. Leave {'it' if len(unused) == 1 else 'them'} out.")


def check_flags(args: argparse.Namespace) -> None:
    """UserError for flags that do not go together, and for a model that is not there."""
    if args.use_lmstudio and args.model_path:
        raise UserError("give either --model_path or --use_lmstudio, not both.")
    if not args.use_lmstudio and not args.model_path:
        raise UserError(
            "give --model_path (a model folder or .gguf file), alone or with --date_probe or --attack; "
            "--use_lmstudio; or --compare."
        )
    if args.use_lmstudio and not args.lmstudio_url:
        args.lmstudio_url = paths.lmstudio_url()  # UserError: it says what is wrong in the environment
    if args.resume and not args.output:
        raise UserError("--resume needs the --output of the evaluation that was cut short.")
    if args.model_path:
        backends.check(args.model_path)
    if args.base_model:
        backends.check(args.base_model, "base model")
    if args.probes is not None and args.test_file:
        raise UserError("--probes asks facts, not the questions of --test_file. Leave one of them out.")
    if args.facts and args.probes is None:
        raise UserError("--facts says what --probes asks. Add --probes, or leave --facts out.")


def settings_of(kind: type[Kind], args: argparse.Namespace, **others: Any) -> Kind:
    """The settings of this kind, of the flags that are named like its fields and of `others`."""
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in vars(args).items() if name in names} | others)
