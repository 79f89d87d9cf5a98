"""Is a merged model still what was trained? The replies and logits of both, and of the base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from deepred_common import devices
from deepred_common.evaluation import equivalence
from deepred_common.evaluation.equivalence import PROMPTS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

# The most that rounding the merged weights may change a logit by, as a share of what training changed it
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
    """A prompt that what was trained and the merged model reply to in other words."""

    prompt: str
    trained: str
    merged: str


@dataclass(frozen=True)
class Check:
    """How a merged model differs from what was trained.

    differing: the prompts with other replies. difference: the largest one of a logit. by_training: by how
    much the training itself moved a logit, at most.
    """

    differing: list[Differing]
    difference: float
    by_training: float

    @property
    def is_beyond_rounding(self) -> bool:
        """True if it is not the same model: rounding the weights explains no such difference."""
        return self.difference > MOST_ROUNDING * self.by_training


def answers(model: Any, tokenizer: PreTrainedTokenizerBase) -> Answers:
    """What a transformers model answers."""
    return Answers(
        equivalence.local_replies(model, tokenizer, PROMPTS), equivalence.last_logits(model, tokenizer)
    )


def of_adapter(
    model: Any, tokenizer: PreTrainedTokenizerBase, strength: float
) -> tuple[Answers, torch.Tensor]:
    """What a PeftModel answers, and the logits of its base, as in Answers.

    strength: by which what the adapter adds is multiplied.
    """
    from peft.helpers import rescale_adapter_scale

    with rescale_adapter_scale(model, strength):
        trained = answers(model, tokenizer)
    with model.disable_adapter():
        return trained, equivalence.last_logits(model, tokenizer)


def of_trained(
    load_trained: Callable[[], Any],
    load_base: Callable[[], Any],
    tokenizer: PreTrainedTokenizerBase,
    strength: float,
) -> tuple[Answers, torch.Tensor]:
    """What was trained answers, and the logits of its base, as in Answers.

    load_trained() gives a PeftModel, which holds its base, or a tuned model, for which load_base() is called:
    one after the other, since two models at once may not fit. strength: as in of_adapter.
    """
    model = load_trained()
    if hasattr(model, "disable_adapter"):
        return of_adapter(model, tokenizer, strength)
    trained = answers(model, tokenizer)
    del model
    devices.free_memory()
    return trained, equivalence.last_logits(load_base(), tokenizer)


def check(merged: Answers, trained: Answers, base_logits: torch.Tensor) -> Check:
    """Compare the answers of a merged model with those of what was trained, and of its base."""
    triples = map(Differing, PROMPTS, trained.replies, merged.replies)
    return Check(
        [triple for triple in triples if triple.trained != triple.merged],
        difference=(trained.logits - merged.logits).abs().max().item(),
        by_training=(base_logits - trained.logits).abs().max().item(),
    )
