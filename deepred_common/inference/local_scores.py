"""Log-likelihoods of given answers from a transformers model: decoded as a reply is, but each token is given.

So all answers share their prompt's cache. Several tokens at a time would be faster, but models that keep a
state take only one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deepred_common.inference.padding import left_padded_from_start, one_block_for_output
from deepred_common.inference.protocol import Score

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def of_batch(model: PreTrainedModel, pairs: Sequence[tuple[list[int], list[list[int]]]]) -> list[list[Score]]:
    """The Scores of the answers to each prompt; pairs: (its token ids, those of each answer).

    The prompts are read once, with left padding; then each answer is a row of the batch that goes on from its
    prompt's cache. Only the logits of one place of each row exist at a time.
    """
    import torch

    device = model.device
    # Longest first: rows that have ended are then the last ones.
    rows = [(place, answer) for place, (_, texts) in enumerate(pairs) for answer in texts]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row][1]), reverse=True)
    sums = [0.0] * len(rows)
    with torch.inference_mode(), one_block_for_output(model):
        ids, mask, positions, cache = left_padded_from_start(model, [prompt for prompt, _ in pairs])
        for step in range(len(rows[order[0]][1])):
            logits = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            going = [row for row in order if len(rows[row][1]) > step]
            # At first a row is a prompt, then an answer.
            kept = torch.tensor(
                [rows[row][0] for row in going] if not step else range(len(going)), device=device
            )
            tokens = torch.tensor([rows[row][1][step] for row in going], device=device)
            chosen = logits.float().log_softmax(-1)[kept, tokens]
            for row, value in zip(going, chosen.tolist(), strict=True):
                sums[row] += value
            if len(kept) != len(mask) or not step:
                cache.reorder_cache(kept)
            mask, positions = mask[kept], positions[kept]
            ids, positions = tokens[:, None], positions[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(kept), 1)], dim=1)
    scores = iter(Score(total, len(answer)) for total, (_, answer) in zip(sums, rows, strict=True))
    return [[next(scores) for _ in texts] for _, texts in pairs]
