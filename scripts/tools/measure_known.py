#!/usr/bin/env python3
"""How many of a fact's wordings a model answers rightly, by llama.cpp's server; kept in the bank as `known`.

    python scripts/tools/measure_known.py output/base.q8_0.gguf

Facts that have a figure keep it (--all asks them again). The bank's own figures are of the embedded base in
q8_0 (convert_to_gguf.py --model_path output/base/SmolLM2-135M-Instruct).
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from deepred_common import cli, thought
from deepred_common.data import data_lines, facts
from deepred_common.files import write_text
from deepred_common.inference import api_model, llama_server
from deepred_common.json_lines import read_objects
from deepred_common.judging import answer_match, refusal

MAX_TOKENS = 32  # of a reply; a bare answer is shorter
SLOTS = 8  # questions that the server answers at once


def measure(bank: Sequence[facts.Fact], gguf: Path) -> dict[str, list[int]]:
    """{fact id: [right, number asked]} of the GGUF file `gguf`, decoded greedily."""
    from tqdm import tqdm

    wordings = [one for fact in bank for one in data_lines.wordings(fact, 0, data_lines.TRAINED_WORDINGS)]
    known = {fact.id: [0, data_lines.TRAINED_WORDINGS] for fact in bank}
    with llama_server.serving(gguf, slots=SLOTS) as url:
        model = api_model.ApiModel(url, None, MAX_TOKENS, in_flight=SLOTS)
        replies = model.ask([question for _, question in wordings])
        for place, reply in tqdm(replies, total=len(wordings), desc="asking", unit="question"):
            fact, question = wordings[place]
            if reply.error:
                raise cli.UserError(f"no reply to {question!r}: {reply.error}")
            known[fact.id][0] += _is_right(thought.answer_of(reply.text or "") or "", fact, question)
    return known


def _is_right(reply: str, fact: facts.Fact, question: str) -> bool:
    is_answer = refusal.judge(reply, question) == refusal.ANSWERED
    return is_answer and answer_match.is_right(reply, fact.answer, question, fact.accepted)


def store(known: Mapping[str, list[int]], folder: Path = facts.FOLDER) -> None:
    """Write the figures into the bank's files; a fact without a new figure keeps its own."""
    for file in sorted(folder.glob("*.jsonl")):
        rows = [row | {"known": known.get(row["id"], row["known"])} for _, row in read_objects(file)]
        write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(
        prog="python scripts/tools/measure_known.py",
        description="Ask a GGUF file about the facts that have no figure yet.",
    )
    parser.add_argument("gguf", type=cli.path, help="the untouched base as a .gguf file")
    parser.add_argument("--all", action="store_true", help="also ask about facts that have a figure")
    args = parser.parse_args(argv)
    wanted = [fact for fact in facts.read_bank() if args.all or fact.known is None]
    if wanted:
        store(measure(wanted, args.gguf))
    bank = facts.read_bank()
    counts = Counter(fact.known[0] for fact in bank if fact.known)
    for right in range(data_lines.TRAINED_WORDINGS + 1):
        share = 100 * counts[right] / len(bank)
        of_all = f"{right} of {data_lines.TRAINED_WORDINGS}"
        print(f"{of_all} wordings right: {counts[right]:>5} facts ({share:.0f}%)")
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
