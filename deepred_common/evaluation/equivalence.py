"""Is it still the same model? Replies, verdicts and logits of two forms of it, over fixed questions.

One form is the measure of the other, so nothing here depends on a cutoff.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deepred_common import chat, paths
from deepred_common.cli import UserError
from deepred_common.data import facts
from deepred_common.dates import year_of
from deepred_common.evaluation import verdicts
from deepred_common.examples import CHAT, Example, Prompt, read_examples
from deepred_common.inference import llama_server
from deepred_common.inference.api_model import ApiModel
from deepred_common.inference.local_model import LocalModel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# The spec's questions for trying a model by hand, on both sides of the cutoff, and two apart from it.
PROMPTS = (
    "What is 2+2?",
    "Who was the first President of the United States?",
    "When did World War II end?",
    "Who wrote Romeo and Juliet?",
    "What was the Manhattan Project?",
    "Who was the first person to walk on the moon?",
    "What happened at Woodstock?",
    "Who invented the Internet?",
    "What is a smartphone?",
    "Name three colours of the rainbow.",
)
FACTS, EVERYDAY = 24, 6  # questions beside PROMPTS
EVERYDAY_FILE = paths.ROOT / "datasets" / "chat" / "chat_val.jsonl"
_LONGEST_EVERYDAY = 120  # characters; longer prompts bring a text along
MAX_TOKENS = 32
# Share of verdicts below which a quantised file counts as another model. Of 240 questions the quickstart's
# q8_0 agrees with f16 in 97 %, q4_k_m in 91, q5_k_m in 86, q3_k_m in 73 (docs/benchmarks.md).
LEAST_AGREEMENT = 0.92
_SLOTS = 8  # of the server
_SHOWN_IDS = 12  # of two lists of token ids that differ


def questions() -> list[Example]:
    """PROMPTS, FACTS dated facts and EVERYDAY prompts.

    The facts are known to the embedded base and lie evenly among such by date, from antiquity to the 2020s:
    whatever the cutoff of a model, it should answer some and refuse others. Only facts have a known answer.
    """
    dated = [fact for fact in facts.read_bank() if fact.is_known and fact.date]
    dated.sort(key=lambda fact: year_of(fact.date) or 0)
    chosen = [dated[(2 * place + 1) * len(dated) // (2 * FACTS)] for place in range(FACTS)]
    everyday = [
        example
        for example in read_examples(EVERYDAY_FILE, CHAT)
        if not example.earlier and len(example.instruction) <= _LONGEST_EVERYDAY
    ]
    return [
        *(Example(prompt, "", CHAT) for prompt in PROMPTS),
        *(Example(fact.question, fact.answer, CHAT, {"accepted_answers": fact.accepted}) for fact in chosen),
        *everyday[:EVERYDAY],
    ]


class Compared(NamedTuple):
    """A question with both forms' replies and verdicts: refused, correct, wrong or broken.

    Without a known answer, a reply that is neither refused nor broken is only "replied".
    """

    prompt: str
    reply: str
    verdict: str
    other_reply: str
    other_verdict: str

    @property
    def has_same_verdict(self) -> bool:
        return self.verdict == self.other_verdict

    @property
    def has_same_words(self) -> bool:
        return self.reply == self.other_reply


def compared(examples: Sequence[Example], replies: Sequence[str], others: Sequence[str]) -> list[Compared]:
    """Each of the examples with the replies of the two forms, in order."""
    return [
        Compared(example.instruction, reply, _verdict(example, reply), other, _verdict(example, other))
        for example, reply, other in zip(examples, replies, others, strict=True)
    ]


def _verdict(example: Example, reply: str) -> str:
    verdict = verdicts.verdict(example, reply)
    has_answer = bool(example.metadata.get("accepted_answers"))
    return verdicts.CORRECT if verdict == verdicts.REPLIED and has_answer else verdict


def local_replies(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]
) -> list[str]:
    """The greedy replies of a transformers model."""
    replies = dict(LocalModel(model, tokenizer, MAX_TOKENS, batch_size=len(prompts)).ask(prompts))
    return [replies[number].text or "" for number in range(len(prompts))]


def last_logits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """The logits of a transformers model for the first token of its replies to PROMPTS.

    (prompts, vocabulary), fp32 on the CPU.
    """
    import torch

    rows = []
    with torch.inference_mode():
        for prompt in PROMPTS:
            ids = torch.tensor([chat.prompt_ids(tokenizer, prompt)], device=model.device)
            rows.append(model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1].float().cpu())
    return torch.stack(rows)


def served(
    gguf: Path, tree: Path | None, prompts: Sequence[Prompt], lora: Path | None = None
) -> tuple[list[list[int]], list[str]]:
    """The token ids of the prompts, and the replies, of llama.cpp's server on the file `gguf`.

    tree: where a built llama-server is looked for. lora: a GGUF adapter that is put on `gguf`.
    UserError if a question gets no reply.
    """
    with llama_server.serving(gguf, slots=_SLOTS, tree=tree, reply_tokens=MAX_TOKENS, lora=lora) as url:
        ids = list(_served_ids(url.removesuffix("/v1"), prompts))
        replies = dict(ApiModel(url, None, MAX_TOKENS, in_flight=_SLOTS).ask(prompts))
    if error := next((reply.error for reply in replies.values() if reply.error), None):
        raise UserError(f"{gguf} could not be asked: {error}")
    return ids, [replies[number].text or "" for number in range(len(prompts))]


def require_same_tokens(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], served_ids: Sequence[Sequence[int]]
) -> None:
    """UserError if a server makes other token ids of a prompt than the model's tokenizer."""
    for prompt, served in zip(prompts, served_ids, strict=True):
        own = chat.prompt_ids(tokenizer, prompt)
        if own != served:
            pairs = zip(own, served, strict=False)
            same = next((place for place, (one, other) in enumerate(pairs) if one != other), 0)
            shown = slice(same, same + _SHOWN_IDS)
            raise UserError(
                f"llama.cpp makes other tokens of {prompt!r} than the model was trained with: "
                f"{served[shown]} … from token {same} on, not {own[shown]} …\nReplies will be worse. "
                "Is the tokenizer the base's own, and llama.cpp new enough for it?"
            )


def _served_ids(root: str, prompts: Sequence[Prompt]) -> Iterator[list[int]]:
    """The token ids that llama.cpp's server makes of each prompt, in a chat."""
    import requests

    session = requests.Session()
    session.trust_env = False  # no proxy stands before this machine itself

    def post(path: str, body: dict[str, Any]) -> Any:
        return session.post(f"{root}/{path}", json=body).json()

    for prompt in prompts:
        # The server renders with the template in the file and tokenises as it does for a chat.
        text = post("apply-template", {"messages": chat.messages(prompt)})["prompt"]
        yield post("tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
