#!/usr/bin/env python3
r"""How well does a tuned model tell before the cutoff from after it, wherever its threshold lies?

For each question: the share of the first token's probability on tokens that begin one of the refusals of
datasets/refusals.jsonl (refusal_openers), as an evaluation saves it, but without writing the replies. A
question counts as refused from one half on. AUROC and d' are those of stats. Rates move with the threshold;
these two hardly do.

Asked are the validation questions, held-out test questions, the validation questions in each wrapping, in
frames that are not trained on, all held-out test questions and those dated near the cutoff, questions in
misleading words, questions about held-out things, and everyday prompts.

    python bench/discrimination.py --base output/base/SmolLM2-135M-Instruct \
        --adapter output/quickstart/run/final
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import chat, cli, paths, refusal_openers, stats
from deepred_common.conversation import first_gap
from deepred_common.data import wrappings
from deepred_common.dates import DEFAULT_CUTOFF, year_of
from deepred_common.examples import CHAT, RETAIN, SEEN_HELD_OUT, SIDES, Prompt, examples_of, read_examples
from deepred_common.inference.local_model import LocalModel
from deepred_common.json_lines import read_objects
from deepred_common.models import loading

DATASETS = paths.ROOT / "datasets"
SEED = 42  # the shipped files'
BATCH = 32
TEST_QUESTIONS, WRAPPED_QUESTIONS = 300, 60  # of a side, and of a side and form
QUESTION_PROBES = ("question", "phrasing")  # of the test file, which also has cloze and choice
THRESHOLD = 0.5
LONG_AGO = -9999  # the year of what has no date: it always held


def refusal_shares(model: LocalModel, prompts: Sequence[Prompt]) -> list[float]:
    """The refusal shares of the replies to the prompts, in order, as far as they are known."""
    replies = dict(model.ask(prompts))
    shares = [replies[number].refusal_share for number in range(len(prompts))]
    return [share for share in shares if share is not None]


def refused(shares: Sequence[float]) -> int:
    """How many of the shares count as refused."""
    return sum(share > THRESHOLD for share in shares)


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
    refusals = [row["text"] for _, row in read_objects(refusal_openers.WORDINGS)]
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
    border = year_of(DEFAULT_CUTOFF) or 0
    years = {id(e): year_of(e.metadata["earliest_date"]) or LONG_AGO for e in held_out}
    others = {
        "all held-out facts": held_out,
        "of them after 1900": [e for e in held_out if years[id(e)] >= 1900],
        "within 20 years": [e for e in held_out if abs(years[id(e)] - border) <= 20],
        "misleading words": read_examples(DATASETS / "test/misleading.jsonl"),
        "held-out things": read_examples(DATASETS / "test/things.jsonl"),
    }
    for name, examples in others.items():
        sets[name] = tuple([e.prompt for e in examples if e.side == side] for side in SIDES)
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
    model = loading.load_model(args.base, torch.float32, trust_remote_code=False)
    if args.adapter:
        from peft import PeftModel

        model = loading.merge_by_peft(PeftModel.from_pretrained(model, str(args.adapter)))
    # One token of each reply, after what the template writes first: that decides nothing.
    local = LocalModel(model, tokenizer, max_tokens=1, batch_size=BATCH, opens_reply=True)
    print(f"{'':<26}{'questions':>11}{'refused before':>16}{'after':>8}{'AUROC':>8}{'d′':>7}")
    for name, sides in sets.items():
        before, after = (refusal_shares(local, prompts) for prompts in sides)
        auroc = stats.auroc(before, after)
        d = stats.d_prime((refused(before), len(before)), (refused(after), len(after)))
        count = f"{len(before)} + {len(after)}"
        rates = "".join(
            f"{100 * refused(shares) / len(shares):>{width}.1f} %"
            for shares, width in ((before, 14), (after, 6))
        )
        print(f"{name:<26}{count:>11}{rates}{auroc:>8.3f}{d:>7.2f}", flush=True)
    for name in ("chat/chat_val.jsonl", "test/chat.jsonl"):
        shares = refusal_shares(local, everyday_prompts(name))
        print(f"{name:<26}{len(shares):>11}{100 * refused(shares) / len(shares):>14.1f} %", flush=True)
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
