#!/usr/bin/env python3
"""Time the ways to get replies: one question at a time with generate(), batches, a GGUF through llama.cpp.

The same questions (the shipped validation files), the same prompts and limit, greedy; loading is not counted.
Prints seconds, replies a second, the ratio to one at a time, and how many verdicts are the same as there. If
lm-evaluation-harness is installed (pip install lm_eval), its generate_until joins the table.

    python bench/evaluate.py --model output/quickstart/merged --gguf output/quickstart/temporal.gguf
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import chat, cli, devices, paths
from deepred_common.evaluation import verdicts
from deepred_common.examples import SIDES, Example, balanced_sample, read_examples
from deepred_common.inference import llama_server
from deepred_common.inference.api_model import ApiModel
from deepred_common.inference.local_model import LocalModel
from deepred_common.inference.protocol import Reply
from deepred_common.models import loading

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Ask = Callable[[Sequence[str]], Iterable[tuple[int, Reply]]]  # as Backend.ask
ONE_AT_A_TIME = "one at a time, generate()"


def one_at_a_time(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Ask:
    """What a plain script does: render, generate, decode, one question after the other."""
    import torch

    stops = chat.stop_ids(tokenizer, model.generation_config)
    options = {
        "max_new_tokens": max_tokens,
        "do_sample": False,
        "eos_token_id": stops,
        "pad_token_id": tokenizer.pad_token_id,
    }

    def ask(questions: Sequence[str]) -> Iterator[tuple[int, Reply]]:
        for number, question in enumerate(questions):
            ids = torch.tensor([chat.prompt_ids(tokenizer, question)], device=model.device)
            with torch.inference_mode():
                output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
            text = tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
            yield number, Reply(text.strip())

    return ask


def with_lm_eval(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_tokens: int, batch_size: int
) -> Ask:
    """lm-evaluation-harness on the same loaded model, asked with the text of the same tokens."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    stops = chat.stop_ids(tokenizer, model.generation_config)
    options = {
        "until": [tokenizer.decode(stop) for stop in stops],
        "max_gen_toks": max_tokens,
        "do_sample": False,
    }

    def ask(questions: Sequence[str]) -> Iterator[tuple[int, Reply]]:
        requests = []
        for number, question in enumerate(questions):
            text = tokenizer.decode(chat.prompt_ids(tokenizer, question))
            requests.append(Instance("generate_until", {}, (text, options), number))
        for number, text in enumerate(harness.generate_until(requests)):
            yield number, Reply(text.strip())

    return ask


def timed(ask: Ask, examples: Sequence[Example]) -> tuple[float, list[str]]:
    """(seconds, verdicts) of asking every example."""
    started = time.perf_counter()
    replies = dict(ask([example.instruction for example in examples]))
    seconds = time.perf_counter() - started
    return seconds, [
        verdicts.verdict(example, replies[number].text or "") for number, example in enumerate(examples)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(description="Time the evaluator's back ends.")
    parser.add_argument("--model", required=True, type=cli.model, help="merged model folder")
    parser.add_argument("--gguf", required=True, type=cli.path, help="the same model as a .gguf file")
    parser.add_argument("--max_tokens", type=cli.positive_int, default=64, help="longest reply")
    parser.add_argument("--limit", type=cli.positive_int, help="questions, half of each side (default: all)")
    parser.add_argument("--batch_size", type=cli.positive_int, default=32)
    parser.add_argument("--in_flight", type=cli.positive_int, default=8)
    args = parser.parse_args(argv)
    loading.set_up_libraries()
    examples = [e for side in SIDES for e in read_examples(paths.dataset_file(f"{side}_val"), side)]
    examples = balanced_sample(examples, args.limit)

    dtype, why = devices.pick_dtype()
    model = loading.load_model(args.model, dtype).to(devices.pick_device()).eval()
    tokenizer = loading.load_tokenizer(args.model)
    print(f"{len(examples)} questions, at most {args.max_tokens} tokens each, {dtype} ({why})")

    rows = {ONE_AT_A_TIME: timed(one_at_a_time(model, tokenizer, args.max_tokens), examples)}
    local = LocalModel(model, tokenizer, args.max_tokens, args.batch_size)
    rows[f"ours, batches of {args.batch_size}"] = timed(local.ask, examples)
    if importlib.util.find_spec("lm_eval"):
        harness = with_lm_eval(model, tokenizer, args.max_tokens, args.batch_size)
        rows[f"lm_eval, batches of {args.batch_size}"] = timed(harness, examples)
    del model, local
    with llama_server.serving(args.gguf, slots=args.in_flight) as url:
        server = ApiModel(url, None, args.max_tokens, args.in_flight)
        rows[f"ours, GGUF, {args.in_flight} in flight"] = timed(server.ask, examples)

    slowest, expected = rows[ONE_AT_A_TIME]
    print(f"{'':<30}{'seconds':>9}{'replies/s':>11}{'ratio':>8}{'same verdicts':>16}")
    for name, (seconds, verdict_list) in rows.items():
        same = sum(a == b for a, b in zip(expected, verdict_list, strict=True))
        speed, ratio = len(examples) / seconds, slowest / seconds
        print(f"{name:<30}{seconds:>9.1f}{speed:>11.2f}{ratio:>7.1f}x{same:>9} of {len(examples)}")
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
