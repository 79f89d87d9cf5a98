"""What training minimises."""

from deepred_common.chat import IGNORED

# How many shares of its example's loss the first reply token gets; every later token gets one.
DECISION_WEIGHT = 10


def decision_weighted_loss(outputs, labels, num_items_in_batch=None):
    """Cross-entropy on the reply, with more weight on its first token.

    Whether the model answers or refuses is settled by the first token of the reply; what follows is mostly spelling
    it out. Plain cross-entropy spends some nine tenths of its gradient on that spelling, which teaches a small model
    our answers by heart before it has learnt when to refuse. Within each example the first token therefore gets
    DECISION_WEIGHT shares and every other token one, scaled so that the example weighs as much as it has tokens: sums
    over batches and accumulation steps stay comparable with plain cross-entropy.

    outputs: has `logits`, (batch, length, vocabulary). labels: (batch, length), IGNORED where there is no loss.
    num_items_in_batch: labels in all the accumulated batches, from the trainer; None counts this batch's own.
    Returns a scalar, in nats a token.
    """
    import torch

    logits, labels = outputs.logits[:, :-1], labels[:, 1:]
    counted = labels != IGNORED
    lengths = counted.sum(1, keepdim=True)
    first = counted & (counted.cumsum(1) == 1)
    shares = torch.where(first, float(DECISION_WEIGHT), 1.0)
    weights = (shares * lengths / (lengths + DECISION_WEIGHT - 1))[counted]
    losses = torch.nn.functional.cross_entropy(logits[counted].float(), labels[counted], reduction="none")
    return (losses * weights).sum() / (num_items_in_batch if num_items_in_batch is not None else counted.sum())
