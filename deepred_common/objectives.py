"""What training minimises: refuse after the cutoff, stay the same model before it."""

from deepred_common import batches, paths, rows, runs
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
        total = total + RETAIN_WEIGHT * (((1 - RETAIN_LEARNING) * drift + RETAIN_LEARNING * wording) * weights[retain_places]).sum()
    return total / (num_items if num_items is not None else counted.sum())


def collate(chosen, pad_id):
    """Rows of rows.py ({"input_ids", "reply_start", "retain"}) to one right-padded batch of tensors, with its attention mask."""
    import torch

    width = max(len(row["input_ids"]) for row in chosen)
    ids = torch.full((len(chosen), width), pad_id)
    labels = torch.full((len(chosen), width), IGNORED)
    mask = torch.zeros((len(chosen), width), dtype=torch.long)
    for i, row in enumerate(chosen):
        tokens, start = torch.as_tensor(row["input_ids"], dtype=torch.long), int(row["reply_start"])
        ids[i, :len(tokens)], mask[i, :len(tokens)], labels[i, start:len(tokens)] = tokens, 1, tokens[start:]
    return {"input_ids": ids, "labels": labels, "attention_mask": mask, "retain": torch.tensor([bool(row["retain"]) for row in chosen])}


def make_trainer_class():
    """trl's SFTTrainer with the loss above. (A function, since trl is heavy to import.)"""
    import torch
    from trl import SFTTrainer

    class TemporalTrainer(SFTTrainer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            # The loss is divided by the labels of all the accumulated batches; the trainer must not divide it again.
            self.model_accepts_loss_kwargs = True

        def _get_train_sampler(self, train_dataset=None):
            lengths, retain = (rows.column(self.train_dataset, name) for name in ("length", "retain"))
            return batches.BalancedOrder(lengths.tolist(), retain.tolist(),
                                         self.get_total_train_batch_size(self.args), self.args.data_seed)

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            retain, labels = inputs["retain"], inputs["labels"]
            ids, mask = inputs["input_ids"], inputs["attention_mask"]
            places = places_to_predict(labels)
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=places).logits
            base_logits = None
            asked = retain.clone()
            # Processes that share a model must run it equally often, or they wait for each other for ever.
            asked[0] |= self.args.world_size > 1
            if asked.any() and RETAIN_LEARNING < 1:
                # The adapter switched off is the base itself: no second copy of it in memory.
                with torch.no_grad(), self.accelerator.unwrap_model(model).disable_adapter():
                    base_logits = model(input_ids=ids[asked], attention_mask=mask[asked], use_cache=False, logits_to_keep=places).logits
                base_logits = base_logits[retain[asked]]
            value = loss(logits, labels, retain, base_logits, num_items_in_batch)
            if num_items_in_batch is not None:
                # num_items counts the labels of all processes, whose gradients are then averaged.
                value = value * self.accelerator.num_processes
            return (value, {}) if return_outputs else value

        def _save_checkpoint(self, *args, **kwargs):
            super()._save_checkpoint(*args, **kwargs)
            # Else a power cut minutes later could still take it: the system writes files when it likes.
            if self.is_world_process_zero():
                paths.sync_folder(runs.checkpoint_path(self.args.output_dir, self.state.global_step))

        def save_now(self):
            """Save a checkpoint of the last whole update, if there is none yet; the folder's path, or None before the first."""
            if self.state.global_step == 0:
                return None
            folder = runs.checkpoint_path(self.args.output_dir, self.state.global_step)
            if not folder.exists() or runs.checkpoint_fault(folder):
                self.optimizer.zero_grad()
                self._save_checkpoint(self.model, trial=None)
            return folder

    return TemporalTrainer
