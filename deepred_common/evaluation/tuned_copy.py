"""A copy of a loaded model that is tuned for a few updates in memory, and never saved."""

from __future__ import annotations

import itertools
import random
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from deepred_common import devices, training_rows
from deepred_common.cli import UserError
from deepred_common.examples import Example
from deepred_common.inference import padding
from deepred_common.inference.local_model import LocalModel
from deepred_common.training_rows import TrainingRow

if TYPE_CHECKING:
    import torch

BATCH = 4  # examples an update: with 8 the tuning takes twice as long
# The quickstart's adapter gives as much after 10 updates with 1e-3 as after 20 with 3e-4, and no more after
# 40 than after 20.
LEARNING_RATE = 1e-3
LORA_RANK, LORA_ALPHA = 16, 32  # as finetune_temporal.py's defaults
LARGEST_GRADIENT = 1.0  # norm to which a larger gradient is scaled, as trl does
SEED = 0


class TunedCopy:
    """A LocalModel, `local`, that is tuned and then as it was again; it can be asked at any time.

    An adapter is merged first, and each tuning trains a fresh one on top: that is what can be done with a
    model as it is given away. Whoever has the adapter apart need only leave it out.
    """

    def __init__(self, local: LocalModel) -> None:
        import torch

        if local.kind == "adapter":
            local.merge_adapter()
        model: Any = local.model
        if model.dtype == torch.float16:
            model = model.float()  # gradients in fp16 vanish unless the loss is scaled
        local.model = model
        self.local = local

    def updates(self, examples: Sequence[Example]) -> Generator[float]:
        """Tune on the examples' replies, and yield each update's loss, without an end.

        close() it, and the model is as it was. UserError if memory runs out, or if the model's chat template
        does not allow training.
        """
        import torch
        from peft import LoraConfig, get_peft_model

        every = training_rows.of_examples(self.local.tokenizer, examples)
        rows = [row for row in every if isinstance(row, TrainingRow)]
        if not rows:
            raise UserError("the model's chat template does not hold a reply as it is written: no tuning.")
        shared = shared_start(rows)
        torch.manual_seed(SEED)
        config = LoraConfig(
            r=LORA_RANK, lora_alpha=LORA_ALPHA, task_type="CAUSAL_LM", target_modules="all-linear"
        )
        tuned: Any = get_peft_model(self.local.model, config)
        self.local.model = tuned
        weights = [weight for weight in tuned.parameters() if weight.requires_grad]
        optimiser = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.0)
        try:
            for batch in _batches(rows):
                try:
                    loss = reply_loss(tuned, batch, shared)
                    loss.backward()
                except (RuntimeError, MemoryError) as error:
                    if not devices.is_out_of_memory(error):
                        raise
                    raise UserError(
                        f"there is not enough memory to tune the model on {BATCH} short replies at once.\n"
                        "Use a machine or GPU with more of it."
                    ) from error
                torch.nn.utils.clip_grad_norm_(weights, LARGEST_GRADIENT)
                optimiser.step()
                optimiser.zero_grad()
                yield loss.item()
        finally:
            self.local.model = tuned.unload()


def reply_loss(model: Any, batch: Sequence[TrainingRow], shared: int) -> torch.Tensor:
    """The mean cross-entropy of a batch's reply tokens, in nats.

    shared: how many tokens all rows begin with; they are computed once for the batch.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import DynamicCache

    device = model.device
    ids, mask, positions = padding.left_padded([row.input_ids[shared:] for row in batch], device)
    mask = torch.cat([mask.new_ones(len(batch), shared), mask], dim=1)
    cache = DynamicCache(config=model.config)
    if shared:
        start = torch.tensor([batch[0].input_ids[:shared]], device=device)
        model(input_ids=start, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(len(batch))
    # All replies end where the batch does, so the head runs over these places alone.
    replies = [row.input_ids[row.reply_start :] for row in batch]
    longest = max(map(len, replies))
    ignored = [training_rows.IGNORED] * longest
    labels = torch.tensor([(ignored + reply)[-longest:] for reply in replies], device=device)
    with padding.one_block_for_output(model):
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions + shared,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=longest + 1,
        ).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=training_rows.IGNORED)


def shared_start(rows: Sequence[TrainingRow]) -> int:
    """How many tokens all rows begin with: the template's, often with a system prompt of its own.

    One before the reply is left over at least, from which its first token is predicted.
    """
    return min(
        padding.shared_start([row.input_ids for row in rows]), min(row.reply_start for row in rows) - 1
    )


def _batches(rows: Sequence[TrainingRow]) -> Iterator[list[TrainingRow]]:
    """Batches of BATCH rows without an end, in a new order each time round."""
    chooser = random.Random(SEED)

    def endless() -> Iterator[TrainingRow]:
        while True:
            yield from chooser.sample(rows, len(rows))

    stream = endless()
    while True:
        yield list(itertools.islice(stream, BATCH))
