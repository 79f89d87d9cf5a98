#!/usr/bin/env python3
"""How fast are replies had? One question at a time with generate(), ours in batches, and ours on the GGUF through llama.cpp.

The same questions (the shipped validation lines), the same prompts and limit, greedy; loading is not counted. Prints
seconds, replies a second, the ratio to one at a time, and how many verdicts are the same as there. Where
lm-evaluation-harness is installed (pip install lm_eval), its generate_until joins the table.

    python bench/evaluate.py --model output/quickstart/merged --gguf output/quickstart/temporal.gguf
"""

import argparse
import importlib.util
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import chat, cli, devices, paths
from deepred_common.evaluation import verdicts
from deepred_common.examples import SIDES, balanced_sample, read_examples
from deepred_common.inference import api_model, llama_server, local_model, protocol
from deepred_common.models import loading


def one_at_a_time(model, tokenizer, max_tokens):
    """What a plain script does: render, generate, decode, one question after the other."""
    import torch

    stops = chat.stop_ids(tokenizer, model.generation_config)
    for_all = {
        "max_new_tokens": max_tokens,
        "do_sample": False,
        "eos_token_id": stops,
        "pad_token_id": tokenizer.pad_token_id,
    }

    def ask(questions):
        for number, question in enumerate(questions):
            ids = torch.tensor([chat.prompt_ids(tokenizer, question)], device=model.device)
            with torch.inference_mode():
                out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **for_all)
            yield (
                number,
                protocol.Reply(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()),
            )

    return ask


def with_lm_eval(model, tokenizer, max_tokens, batch_size):
    """lm-evaluation-harness on the same loaded model, asked with the text of the same tokens."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    until = {
        "until": [tokenizer.decode(stop) for stop in chat.stop_ids(tokenizer, model.generation_config)],
        "max_gen_toks": max_tokens,
        "do_sample": False,
    }

    def ask(questions):
        texts = [tokenizer.decode(chat.prompt_ids(tokenizer, question)) for question in questions]
        requests = [
            Instance("generate_until", {}, (text, until), number) for number, text in enumerate(texts)
        ]
        for number, text in enumerate(harness.generate_until(requests)):
            yield number, protocol.Reply(text.strip())

    return ask


def timed(ask, examples):
    """(seconds, [verdict]) of asking every example."""
    started = time.perf_counter()
    said = dict(ask([example.instruction for example in examples]))
    seconds = time.perf_counter() - started
    return seconds, [verdicts.verdict(example, said[i].text or "") for i, example in enumerate(examples)]


def main(argv=None):
    parser = argparse.ArgumentParser(description="Time the evaluator's back ends.")
    parser.add_argument("--model", required=True, help="merged model folder")
    parser.add_argument("--gguf", required=True, help="the same model as a .gguf file")
    parser.add_argument("--max_tokens", type=int, default=64)
    parser.add_argument("--limit", type=int, help="questions, half of each side (default: all)")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--in_flight", type=int, default=8)
    args = parser.parse_args(argv)
    loading.quiet_libraries()
    examples = [e for side in SIDES for e in read_examples(paths.dataset_file(f"{side}_val"), side)]
    examples = balanced_sample(examples, args.limit)
    dtype, why = devices.pick_dtype()
    model, tokenizer = (
        loading.load_model(args.model, dtype).to(devices.pick_device()).eval(),
        loading.load_tokenizer(args.model),
    )
    print(f"{len(examples)} questions, at most {args.max_tokens} tokens each, {dtype} ({why})")
    rows = {"one at a time, generate()": timed(one_at_a_time(model, tokenizer, args.max_tokens), examples)}
    rows[f"ours, batches of {args.batch_size}"] = timed(
        local_model.LocalModel(model, tokenizer, args.max_tokens, args.batch_size).ask, examples
    )
    if importlib.util.find_spec("lm_eval"):
        rows[f"lm_eval, batches of {args.batch_size}"] = timed(
            with_lm_eval(model, tokenizer, args.max_tokens, args.batch_size), examples
        )
    del model
    with llama_server.serving(args.gguf, slots=args.in_flight) as url:
        rows[f"ours, GGUF, {args.in_flight} in flight"] = timed(
            api_model.ApiModel(url, None, args.max_tokens, args.in_flight).ask, examples
        )
    slowest, same = rows["one at a time, generate()"]
    print(f"{'':<30}{'seconds':>9}{'replies/s':>11}{'ratio':>8}{'same verdicts':>16}")
    for name, (seconds, own) in rows.items():
        agreed = sum(a == b for a, b in zip(same, own, strict=True))
        print(
            f"{name:<30}{seconds:>9.1f}{len(examples) / seconds:>11.2f}{slowest / seconds:>7.1f}x{agreed:>9} of {len(examples)}"
        )
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
