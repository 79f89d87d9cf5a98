"""What training minimises: refuse after the cutoff, stay the same model before it."""

from deepred_common.chat import IGNORED

# How many shares of its example's loss the first reply token gets; every later token gets one.
DECISION_WEIGHT = 10
# Of what a retain token is trained towards, how much is the line's own wording; the rest is the base's own prediction.
RETAIN_LEARNING = 0.05
# How much a retain token counts beside an unlearn token. Refusing is one simple habit and is learnt first; what wears
# away meanwhile is knowledge, a little everywhere.
RETAIN_WEIGHT = 3


def token_weights(labels):
    """Weights of each label's loss, (batch, length - 1); 0 where there is no label. They sum to the number of labels.

    Whether the model answers or refuses is settled by the first token of the reply; what follows mostly spells it out.
    Equal weights spend some nine tenths of the gradient on that spelling. So within each example the first label
    gets DECISION_WEIGHT shares and every other one, scaled so that the example weighs as much as it has labels: sums
    over batches and accumulation steps stay those of plain cross-entropy.
    """
    import torch

    counted = labels[:, 1:] != IGNORED
    lengths = counted.sum(1, keepdim=True)
    shares = torch.where(counted & (counted.cumsum(1) == 1), float(DECISION_WEIGHT), 1.0)
    return torch.where(counted, shares * lengths / (lengths + DECISION_WEIGHT - 1), 0.0)


def places_to_predict(labels):
    """The places, (n,), after which some row of the batch has a label: the only ones whose logits are needed.

    The output layer of a small model is a fifth of its arithmetic, and most places belong to prompts.
    """
    return (labels[:, 1:] != IGNORED).any(0).nonzero().squeeze(1)


def loss(logits, labels, retain, base_logits, num_items=None):
    """The training loss, a scalar in nats a token.

    Unlearn rows: cross-entropy on the refusal. Retain rows: cross-entropy towards a mixture of the base's own
    prediction and the line's token (RETAIN_LEARNING of it), less the base's entropy, so that it is 0 for a model that
    equals the base and a line that the base is sure of. Towards the base this is the Kullback-Leibler term of "KL
    minimisation" in Maini et al., TOFU (arXiv 2401.06121): a few hundred lines repeated over epochs otherwise teach
    a small model those lines by heart and wear away what it knew beside them.

    logits: (batch, n, vocabulary), at places_to_predict(labels). labels: (batch, length), IGNORED where there is no loss.
    retain: (batch,) bool. base_logits: the same model without its adapter, for the retain rows only, in order.
    num_items: labels in all the accumulated batches, from the trainer; None counts this batch's own.
    """
    import torch
    from torch.nn.functional import cross_entropy, log_softmax

    places = places_to_predict(labels)
    weights = token_weights(labels)[:, places]
    counted = weights > 0
    targets = labels[:, 1:][:, places]
    total = logits.new_zeros((), dtype=torch.float32)
    unlearn_places = counted & ~retain[:, None]
    if unlearn_places.any():
        losses = cross_entropy(logits[unlearn_places].float(), targets[unlearn_places], reduction="none")
        total = total + (losses * weights[unlearn_places]).sum()
    retain_places = counted & retain[:, None]
    if retain_places.any():
        own = log_softmax(logits[retain_places].float(), dim=-1)
        drift = 0.0
        if RETAIN_LEARNING < 1:
            base = log_softmax(base_logits[counted[retain]].float(), dim=-1)
            drift = (base.exp() * (base - own)).sum(-1)
        wording = -own.gather(1, targets[retain_places][:, None]).squeeze(1)
        total = (
            total
            + RETAIN_WEIGHT
            * (((1 - RETAIN_LEARNING) * drift + RETAIN_LEARNING * wording) * weights[retain_places]).sum()
        )
    return total / (num_items if num_items is not None else counted.sum())


def collate(chosen, pad_id):
    """Rows of token_rows.py ({"input_ids", "reply_start", "retain"}) to one right-padded batch of tensors, with its attention mask."""
    import torch

    width = max(len(row["input_ids"]) for row in chosen)
    ids = torch.full((len(chosen), width), pad_id)
    labels = torch.full((len(chosen), width), IGNORED)
    mask = torch.zeros((len(chosen), width), dtype=torch.long)
    for i, row in enumerate(chosen):
        tokens, start = torch.as_tensor(row["input_ids"], dtype=torch.long), int(row["reply_start"])
        ids[i, : len(tokens)], mask[i, : len(tokens)], labels[i, start : len(tokens)] = (
            tokens,
            1,
            tokens[start:],
        )
    return {
        "input_ids": ids,
        "labels": labels,
        "attention_mask": mask,
        "retain": torch.tensor([bool(row["retain"]) for row in chosen]),
    }
