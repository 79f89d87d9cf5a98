"""Is it still the same model? Greedy replies and logits of two forms of it, over a few fixed questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepred_common import chat
from deepred_common.cli import UserError
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
MAX_TOKENS = 32


def local_replies(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The greedy replies of a transformers model to PROMPTS."""
    replies = dict(LocalModel(model, tokenizer, MAX_TOKENS, batch_size=len(PROMPTS)).ask(PROMPTS))
    return [replies[number].text or "" for number in range(len(PROMPTS))]


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


def served(gguf: Path, tree: Path | None) -> tuple[list[list[int]], list[str]]:
    """The token ids of PROMPTS, and the replies, of llama.cpp's server on the file `gguf`.

    tree: where a built llama-server is looked for. UserError if a question gets no reply.
    """
    import requests

    session = requests.Session()
    session.trust_env = False  # no proxy stands before this machine itself
    ids = []
    with llama_server.serving(gguf, tree=tree) as url:
        root = url.removesuffix("/v1")

        def post(path: str, body: dict[str, Any]) -> Any:
            return session.post(f"{root}/{path}", json=body).json()

        for prompt in PROMPTS:
            # The server renders with the template in the file and tokenises as it does for a chat.
            text = post("apply-template", {"messages": chat.messages(prompt)})["prompt"]
            tokens = post("tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
            ids.append(tokens)
        replies = dict(ApiModel(url, None, MAX_TOKENS, in_flight=1).ask(PROMPTS))
    if error := next((reply.error for reply in replies.values() if reply.error), None):
        raise UserError(f"{gguf} could not be asked: {error}")
    return ids, [replies[number].text or "" for number in range(len(PROMPTS))]


def differing(replies: Sequence[str], others: Sequence[str]) -> list[tuple[str, str, str]]:
    """(prompt, reply, other reply) of the PROMPTS that are not answered word for word alike."""
    return [
        (prompt, reply, other)
        for prompt, reply, other in zip(PROMPTS, replies, others, strict=True)
        if reply != other
    ]
