#!/usr/bin/env python3
r"""How well does a tuned model tell before the cutoff from after it, wherever its threshold lies?

For each question: the share of the first token's probability on tokens that begin one of the refusals of
datasets/refusals.jsonl. A question counts as refused from one half on. AUROC: how often a question from after
the cutoff has a larger share than one from before it. d': z of refused after less z of refused before
(Macmillan and Creelman, Detection Theory). Rates move with the threshold; these two hardly do.

Asked are the validation questions, held-out test questions, the validation questions in each wrapping, in
frames that are not trained on, and everyday prompts.

    python bench/discrimination.py --base output/base/SmolLM2-135M-Instruct \
        --adapter output/quickstart/run/final
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import chat, cli, paths, training_rows
from deepred_common.conversation import first_gap
from deepred_common.data import wrappings
from deepred_common.examples import CHAT, RETAIN, SEEN_HELD_OUT, SIDES, Prompt, examples_of, read_examples
from deepred_common.json_lines import read_objects
from deepred_common.models import loading

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DATASETS = paths.ROOT / "datasets"
SEED = 42  # the shipped files'
BATCH = 32
TEST_QUESTIONS, WRAPPED_QUESTIONS = 300, 60  # of a side, and of a side and form
QUESTION_PROBES = ("question", "phrasing")  # of the test file, which also has cloze and choice
THRESHOLD = 0.5


def refusal_shares(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    openers: Sequence[int],
    prompts: Sequence[Prompt],
) -> list[float]:
    """The share of the reply's first token's probability on `openers`, for each prompt in order."""
    import torch

    opening = training_rows.opening_ids(tokenizer)  # what the template writes first decides nothing
    ids = [chat.prompt_ids(tokenizer, prompt) + opening for prompt in prompts]
    shares = [0.0] * len(ids)
    by_length = sorted(range(len(ids)), key=lambda number: len(ids[number]))
    for start in range(0, len(by_length), BATCH):
        batch = by_length[start : start + BATCH]
        width = max(len(ids[number]) for number in batch)
        tokens = torch.tensor([[0] * (width - len(ids[n])) + ids[n] for n in batch])
        mask = torch.tensor([[0] * (width - len(ids[n])) + [1] * len(ids[n]) for n in batch])
        with torch.inference_mode():
            logits = model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                logits_to_keep=1,
            ).logits[:, -1]
        found = logits.float().softmax(-1)[:, list(openers)].sum(-1)
        for number, share in zip(batch, found.tolist(), strict=True):
            shares[number] = share
    return shares


def discrimination(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """(AUROC, d') of the shares before and after the cutoff."""
    from scipy.stats import mannwhitneyu

    auroc = mannwhitneyu(after, before).statistic / (len(before) * len(after))
    z_after, z_before = (_z(_refused(shares), len(shares)) for shares in (after, before))
    return float(auroc), z_after - z_before


def _refused(shares: Sequence[float]) -> float:
    return sum(share > THRESHOLD for share in shares) / len(shares)


def _z(rate: float, count: int) -> float:
    """Half a question less than all or more than none, where the normal distribution has no end."""
    return NormalDist().inv_cdf(min(max(rate, 0.5 / count), 1 - 0.5 / count))


def questions() -> dict[str, tuple[list[Prompt], list[Prompt]]]:
    """{name: prompts before and after the cutoff}."""
    lines = {side: [row for _, row in read_objects(DATASETS / f"{side}/{side}_val.jsonl")] for side in SIDES}
    sets: dict[str, tuple[list[Prompt], list[Prompt]]] = {
        "validation": tuple([row["instruction"] for row in lines[side]] for side in SIDES)
    }
    asked = [e for e in read_examples(DATASETS / "test/test.jsonl") if e.metadata["probe"] in QUESTION_PROBES]
    held_out = [example for example in asked if example.metadata.get("seen") == SEEN_HELD_OUT]
    chooser = random.Random(SEED)
    of_side = [[example.prompt for example in held_out if example.side == side] for side in SIDES]
    sets["held-out facts"] = tuple(
        chooser.sample(prompts, min(len(prompts), TEST_QUESTIONS)) for prompts in of_side
    )
    refusals = [row["text"] for _, row in read_objects(DATASETS / "refusals.jsonl")]
    _, frames = wrappings.read_frames(SEED)
    wrapper = wrappings.Wrapper(frames, lines, refusals, chooser)
    for form in wrappings.FORMS[RETAIN]:
        sets[form] = tuple(
            [
                examples_of(dict(wrapper.wrap(line, form)), form, side)[0].prompt
                for line in lines[side][:WRAPPED_QUESTIONS]
            ]
            for side in SIDES
        )
    return sets


def everyday_prompts(file: str) -> list[Prompt]:
    """The chat prompts of a file in which the model has no earlier turn to write."""
    examples = read_examples(DATASETS / file, CHAT)
    return [e.prompt for e in examples if first_gap(chat.messages(e.prompt)) is None]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = cli.Parser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--base", required=True, type=cli.model, help="folder or hub name of the base, or of a merged model"
    )
    parser.add_argument("--adapter", type=cli.path, help="folder of its adapter")
    args = parser.parse_args(argv)
    sets = questions()  # before the model: it is quick to fail
    import torch

    tokenizer = loading.load_tokenizer(args.base, trust_remote_code=False)
    chat.ensure_template(tokenizer)
    model = loading.load_model(args.base, torch.float32, trust_remote_code=False)
    if args.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(args.adapter)).merge_and_unload()
    model.eval()
    refusals = [row["text"] for _, row in read_objects(DATASETS / "refusals.jsonl")]
    openers = sorted({tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in refusals})
    print(f"{'':<26}{'questions':>11}{'refused before':>16}{'after':>8}{'AUROC':>8}{'d′':>7}")
    for name, sides in sets.items():
        before, after = (refusal_shares(model, tokenizer, openers, prompts) for prompts in sides)
        auroc, d = discrimination(before, after)
        count = f"{len(before)} + {len(after)}"
        rates = f"{100 * _refused(before):>14.1f} %{100 * _refused(after):>6.1f} %"
        print(f"{name:<26}{count:>11}{rates}{auroc:>8.3f}{d:>7.2f}", flush=True)
    for name in ("chat/chat_val.jsonl", "test/chat.jsonl"):
        shares = refusal_shares(model, tokenizer, openers, everyday_prompts(name))
        print(f"{name:<26}{len(shares):>11}{100 * _refused(shares):>14.1f} %", flush=True)
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
