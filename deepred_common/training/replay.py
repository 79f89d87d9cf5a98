"""Replay: everyday prompts among the training rows, so that small talk is not refused as unknown facts are.

A base with a chat template writes the replies itself before training, and keeps its own way of replying; a
hand-written reply would teach it a new voice. One without has no way of replying to keep: it learns written
replies.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from deepred_common import cache, chat, cli, devices, examples, provenance, thought, training_rows
from deepred_common.cli import UserError
from deepred_common.conversation import first_gap, gap_count, with_replies
from deepred_common.examples import Example
from deepred_common.inference import conversations, local_model

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VERSION = 2  # raise it when the same base writes other replies: they are kept under it
# Most tokens of a reply: whether to refuse is settled at its start, and long ones cost time.
REPLY_TOKENS = 16
VALIDATION_SHARE = 0.1  # of the prompts chosen
# Written replies are few. Each is learned at most so often in an epoch: more would teach it by heart.
MOST_TIMES = 3
BATCH_SIZE = 32  # prompts answered at once; it halves itself where memory is short
_WrittenReply = tuple[str, bool, list[str]]  # the reply, is it complete?, the replies to earlier turns


class Prompts(NamedTuple):
    """Replay prompts to train on and to validate with."""

    training: list[Example]
    validation: list[Example]


def learnable(prompts: Sequence[Example]) -> list[Example]:
    """The prompts with a reply, which is to be learned word for word: for a base without a chat template.

    The reply is the file's, or else the last of metadata.replies, whose others are those to earlier turns.
    UserError if there are not as many of these as turns without a reply.
    """
    answered = []
    for prompt in prompts:
        filled = prompt if prompt.output else _with_written_replies(prompt)
        if not lacks_a_reply(filled):
            metadata = filled.metadata | {"learn_wording": True}
            answered.append(dataclasses.replace(filled, metadata=metadata))
    return answered


def _with_written_replies(prompt: Example) -> Example:
    """The prompt with its metadata.replies, if it has any, in their places."""
    replies = prompt.metadata.get("replies")
    if not replies:
        return prompt
    right_type = isinstance(replies, list) and all(isinstance(text, str) and text.strip() for text in replies)
    if not right_type or len(replies) != gap_count(chat.messages(prompt.prompt)) + 1:
        raise UserError(
            f"{prompt.where}: 'metadata.replies' must be a list of texts, one for each user turn that has no "
            "reply."
        )
    *earlier, last = (text.strip() for text in replies)
    return _with_reply(prompt, (last, True, earlier))


def choose(prompts: Sequence[Example], dated_rows: int, share: float, seed: int, times: int = 1) -> Prompts:
    """So many prompts, chosen by `seed`, that they are `share` of all training rows; all if there are fewer.

    dated_rows: rows of the other sides. Validation gets VALIDATION_SHARE of those chosen. times: how often
    one for training may come where there are too few.
    """
    wanted = round(dated_rows * share / (1 - share) / (1 - VALIDATION_SHARE))
    chosen = random.Random(f"{seed} replay").sample(list(prompts), min(wanted, len(prompts)))
    held_out = round(len(chosen) * VALIDATION_SHARE)
    training = chosen[held_out:]
    rows = wanted - round(wanted * VALIDATION_SHARE)
    return Prompts((training * times)[:rows], chosen[:held_out])


def answered_by_base(
    prompts: Prompts,
    base_key: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    load_base: Callable[[], PreTrainedModel],
    device: torch.device,
) -> Prompts:
    """The prompts with the replies of the base, for those that have none. Replies are kept for later runs.

    A prompt to which the base only thinks is left out. See `completed`.
    """
    both = completed([*prompts.training, *prompts.validation], base_key, tokenizer, load_base, device)
    places = len(prompts.training)
    return Prompts(
        [example for example in both[:places] if example.output],
        [example for example in both[places:] if example.output],
    )


def completed(
    prompts: Sequence[Example],
    base_key: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    load_base: Callable[[], PreTrainedModel],
    device: torch.device,
    title: str = "Replay",
) -> list[Example]:
    """The prompts, in order, with replies of the base where they have none, "" where it says nothing.

    base_key: texts that tell the base from others, its precision included. load_base() is called only if
    replies are missing; device is where it then writes them. Replies are kept for later runs. title: what
    they are for, for messages.
    """
    missing = [example for example in prompts if lacks_a_reply(example)]
    if not missing:
        return list(prompts)
    versions = (
        f"examples {examples.VERSION}, chat {chat.VERSION}, training_rows {training_rows.VERSION}, "
        f"replay {VERSION}, {REPLY_TOKENS} tokens"
    )
    conversation_texts = [str(chat.messages(example.prompt)) for example in missing]
    key = provenance.digest(versions, *base_key, tokenizer.chat_template, *conversation_texts)
    written: list[_WrittenReply] = cache.json_value(
        "replay", key, lambda: _write(missing, load_base(), tokenizer, device, title)
    )
    replies = iter(written)
    return [_with_reply(one, next(replies)) if lacks_a_reply(one) else one for one in prompts]


def _with_reply(example: Example, written: _WrittenReply) -> Example:
    """The example with what was written; a last reply that the file gives stays."""
    output, complete, turns = written
    if example.output:
        output, complete = example.output, True
    conversation = with_replies(chat.messages(example.prompt), turns)
    if first_gap(conversation) is not None:  # the base did not get beyond its thought in an earlier turn
        output = ""
    earlier = tuple(conversation[:-1])
    return dataclasses.replace(example, output=output, complete=complete, earlier=earlier)


def lacks_a_reply(example: Example) -> bool:
    """True if the model has yet to reply to some turn of a user."""
    return not example.output or first_gap(chat.messages(example.prompt)) is not None


def _write(
    prompts: Sequence[Example],
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
    title: str,
) -> list[_WrittenReply]:
    """The base's replies, in order."""
    from tqdm import tqdm

    cli.progress(
        f"{title}: the base writes {len(prompts)} replies of at most {REPLY_TOKENS} tokens, once for "
        "this base and these prompts."
    )
    # The trainer moves the base to the GPU later, and by its own rules where several share it. A quantised
    # base lies there already.
    home = base.device
    if home.type != device.type:
        base.to(device)
    model = local_model.LocalModel(base, tokenizer, REPLY_TOKENS, BATCH_SIZE, opens_reply=True)
    written: dict[int, _WrittenReply] = {}
    only_thoughts = 0
    started = time.monotonic()
    with tqdm(total=len(prompts), desc=title.lower(), unit="reply") as bar:
        for index, reply in conversations.ask(model, [example.prompt for example in prompts]):
            answer = thought.answer_of(reply.text or "")
            only_thoughts += answer is None
            turns = [thought.answer_of(turn) or "" for turn in reply.turns]
            written[index] = (answer or "", reply.finish == "stop", turns)
            bar.update()
    if only_thoughts:
        cli.warn(
            f"the base was still thinking after {REPLY_TOKENS} tokens on {only_thoughts} of {len(prompts)} "
            "prompts; these are left out."
        )
    if home.type != device.type:
        base.to(home)
        devices.free_memory()
    cli.progress(f"{title}: {len(written)} replies in {time.monotonic() - started:.0f} s")
    return [written[index] for index in range(len(prompts))]
