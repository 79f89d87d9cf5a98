"""Is a merged model still base + adapter? Its replies and logits, and those of the two it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from deepred_common.evaluation import equivalence
from deepred_common.evaluation.equivalence import PROMPTS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

# The most that rounding the merged weights may change a logit by, as a share of what the adapter changes it
# by. In the quickstart bfloat16 changes them by 1.5 %; a merge that lost a part of the adapter is off by
# far more.
MOST_ROUNDING = 0.25


class Answers(NamedTuple):
    """A model's answers to equivalence.PROMPTS, in order.

    logits: of each reply's first token, (prompts, vocabulary) in fp32 on the CPU.
    """

    replies: list[str]
    logits: torch.Tensor


class Differing(NamedTuple):
    """A prompt that base + adapter and the merged model reply to in other words."""

    prompt: str
    with_adapter: str
    merged: str


@dataclass(frozen=True)
class Check:
    """How a merged model differs from base + adapter.

    differing: the prompts with other replies. difference: the largest one of a logit. by_adapter: by how much
    the adapter itself moves a logit, at most.
    """

    differing: list[Differing]
    difference: float
    by_adapter: float

    @property
    def is_beyond_rounding(self) -> bool:
        """True if it is not the same model: rounding the weights explains no such difference."""
        return self.difference > MOST_ROUNDING * self.by_adapter


def answers(model: Any, tokenizer: PreTrainedTokenizerBase) -> Answers:
    """What a transformers model answers."""
    return Answers(
        equivalence.local_replies(model, tokenizer, PROMPTS), equivalence.last_logits(model, tokenizer)
    )


def check(merged: Answers, model: Any, tokenizer: PreTrainedTokenizerBase, strength: float) -> Check:
    """Compare a merged model's answers with those of the PeftModel that it was made from.

    strength: by which what the adapter adds was multiplied.
    """
    from peft.helpers import rescale_adapter_scale

    with rescale_adapter_scale(model, strength):
        expected = answers(model, tokenizer)
    with model.disable_adapter():
        by_base = equivalence.last_logits(model, tokenizer)
    triples = map(Differing, PROMPTS, expected.replies, merged.replies)
    return Check(
        [triple for triple in triples if triple.with_adapter != triple.merged],
        difference=(expected.logits - merged.logits).abs().max().item(),
        by_adapter=(by_base - merged.logits).abs().max().item(),
    )
