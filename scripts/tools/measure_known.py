#!/usr/bin/env python3
"""How many of a fact's wordings a model answers rightly, asked of llama.cpp's server and written into the bank as `known`.

    python scripts/tools/measure_known.py output/base.q8_0.gguf

Facts that have a figure keep it (--all asks them anew). The bank's own figures are of the embedded base in q8_0
(convert_to_gguf.py --model_path output/base/SmolLM2-135M-Instruct).
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from deepred_common import cli
from deepred_common.data import builder, facts
from deepred_common.examples import read_objects
from deepred_common.files import write_text
from deepred_common.inference import api_model, llama_server
from deepred_common.judging import answer_match, refusal

MAX_TOKENS = 32
SLOTS = 8


def measure(bank, gguf):
    """{fact id: [right, asked]} of the GGUF file `gguf`, asked greedily."""
    from tqdm import tqdm

    asked = [wording for fact in bank for wording in builder.wordings(fact, 0, builder.TRAINED_WORDINGS)]
    found = {fact.id: [0, builder.TRAINED_WORDINGS] for fact in bank}
    with llama_server.serving(gguf, slots=SLOTS) as url:
        model = api_model.ApiModel(url, None, MAX_TOKENS, in_flight=SLOTS)
        for place, reply in tqdm(
            model.ask([text for _, text in asked]), total=len(asked), desc="asking", unit="question"
        ):
            fact, text = asked[place]
            if reply.error:
                raise cli.UserError(f"no reply to {text!r}: {reply.error}")
            found[fact.id][0] += refusal.judge(
                reply.text, text
            ) == refusal.ANSWERED and answer_match.is_right(reply.text, fact.answer, text, fact.accepted)
    return found


def store(found, folder=facts.FOLDER):
    """Write the figures into the bank's files, whole or not at all each; a fact not in `found` keeps its own."""
    for file in sorted(folder.glob("*.jsonl")):
        rows = [row | {"known": found.get(row["id"], row["known"])} for _, row in read_objects(file)]
        write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def main(argv=None):
    parser = cli.Parser(
        prog="python scripts/tools/measure_known.py",
        description="Ask a GGUF file the facts that have no figure yet.",
    )
    parser.add_argument("gguf", type=Path, help="the untouched base as a .gguf file")
    parser.add_argument("--all", action="store_true", help="ask the facts that have a figure again, too")
    args = parser.parse_args(argv)
    wanted = [fact for fact in facts.read_bank() if args.all or fact.known is None]
    if wanted:
        store(measure(wanted, args.gguf))
    bank = facts.read_bank()
    for right in range(builder.TRAINED_WORDINGS + 1):
        count = sum(fact.known[0] == right for fact in bank)
        print(
            f"{right} of {builder.TRAINED_WORDINGS} wordings right: {count:>5} facts ({100 * count / len(bank):.0f}%)"
        )
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
