"""What a validation says beside its losses: how well refusing tells late rows from early ones.

And which validation's weights a run ends with. The losses' own forward pass has all that is needed: the
logits of each reply's first token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepred_common import devices, refusal_openers, stats
from deepred_common.examples import ALL_SIDES, CHAT, RETAIN, SIDES, UNLEARN
from deepred_common.training import batches, token_rows

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from deepred_common.training.settings import TrainSettings

# Rows of each side that a validation takes at most. There is one every --eval_steps: of 15 000 rows it would
# compute ten times what is trained in between. With 500 of each dated side the AUROC's standard error is 0.02
# at worst. Of chat rows, which the base computes as well, only the loss and the share refused are reported.
MOST_ROWS = {RETAIN: 500, UNLEARN: 500, CHAT: 220}
AUROC, AUROC_ERROR = "eval_auroc", "eval_auroc_error"
REFUSED = {side: f"eval_{side}_refused" for side in ALL_SIDES}


# ---- what is measured ----------------------------------------------------------------------------


def at_most(rows: Dataset, seed: int) -> Dataset:
    """MOST_ROWS of the validation rows, chosen by `seed`, in order; all where a side has no more."""
    import numpy as np

    chooser = np.random.default_rng(seed)
    sides, kept, parts = token_rows.column(rows, "side"), [], []
    for number, side in enumerate(ALL_SIDES):
        places = np.flatnonzero(sides == number)
        kept.append(chooser.permutation(places)[: MOST_ROWS[side]])
        parts.append(f"{len(kept[-1])} of {len(places)} {side}")
    chosen = np.sort(np.concatenate(kept))
    if len(chosen) == len(rows):
        return rows
    print(f"Each validation takes {', '.join(parts)} rows, chosen by --seed.")
    return rows.select(chosen)


def refusal_log_odds(
    logits: Tensor, labels: Tensor, decisions: Tensor, openers: Sequence[int]
) -> Tensor | None:
    """The log-odds that each row's reply begins as a refusal, (rows,) in fp32; None without openers.

    logits: (labels, vocabulary), as in LossInputs. labels, decisions: of batches.collate. openers: of
    refusal_openers.token_ids.
    """
    if not openers:
        return None
    return refusal_openers.log_odds(logits[batches.first_text_labels(labels, decisions)], openers)


def figures(log_odds: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The logged figures of a validation. log_odds: {side: of each of its rows}.

    eval_auroc and its standard error eval_auroc_error, unless a side has too few rows; eval_<side>_refused,
    the share of rows where more than half of the probability begins a refusal.
    """
    shares = {REFUSED[side]: float((values > 0).mean()) for side, values in log_odds.items()}
    if any(len(log_odds.get(side, ())) < stats.FEWEST_OF_SIDE for side in SIDES):
        return shares
    before, after = log_odds[RETAIN], log_odds[UNLEARN]
    area = stats.auroc(before.tolist(), after.tolist())
    return {AUROC: area, AUROC_ERROR: stats.auroc_error(area, len(before), len(after))} | shares


def text(metrics: Mapping[str, float]) -> str:
    """The figures as people read them; "" if there are none."""
    parts = []
    if AUROC in metrics:
        parts.append(f"AUROC of refusing {metrics[AUROC]:.3f} ± {metrics[AUROC_ERROR]:.3f}")
    shares = [f"{100 * metrics[name]:.0f} % of {side}" for side, name in REFUSED.items() if name in metrics]
    if shares:
        parts.append(f"refused {', '.join(shares)}")
    return "; ".join(parts)


def caution(tokenizer: PreTrainedTokenizerBase, rows: Dataset, settings: TrainSettings) -> str | None:
    """Why --keep best cannot choose, and what follows; None if it can. rows: of validation."""
    objective = settings.objective
    if not objective.teaches_refusal:
        reason = f"--objective {objective.name} teaches no refusal, by which the best would be chosen"
    elif devices.splits_model() == "FSDP":
        reason = "under FSDP no process holds the whole adapter during training"
    elif not refusal_openers.token_ids(tokenizer):
        reason = "the tokenizer's vocabulary holds no text that begins a refusal"
    elif any(len(token_rows.of_side(rows, side)) < stats.FEWEST_OF_SIDE for side in SIDES):
        reason = f"validation has fewer than {stats.FEWEST_OF_SIDE} retain or unlearn rows"
    else:
        return None
    return f"--keep best: {reason}. final/ will be the last update's {settings.product}."


# ---- which one is kept ---------------------------------------------------------------------------


def metrics_at(history: Iterable[Mapping[str, Any]], update: int) -> dict[str, float]:
    """All that the validation after an update logged in a trainer's history; {} if there was none."""
    metrics: dict[str, float] = {}
    for entry in history:
        if entry["step"] == update and any(name.startswith("eval_") for name in entry):
            metrics |= {name: value for name, value in entry.items() if name != "step"}
    return metrics


def best(history: Sequence[Mapping[str, Any]], updates: Iterable[int]) -> int | None:
    """Which of `updates` has the highest AUROC in a trainer's history; None if none has one.

    Of equal ones: with fewer chat rows refused, then with the lower retain loss, then the later one.
    """

    def rank(update: int) -> tuple[float, float, float, int]:
        metrics = metrics_at(history, update)
        return (
            metrics[AUROC],
            -metrics.get(REFUSED[CHAT], 0),
            -metrics.get(f"eval_{RETAIN}_loss", 0),
            update,
        )

    measured = {entry["step"] for entry in history if AUROC in entry}
    return max(measured.intersection(updates), key=rank, default=None)


def chosen(history: Sequence[Mapping[str, Any]], kept: Iterable[int], last: int) -> int:
    """The update that --keep best ends with: one of `kept`, or the last.

    An earlier one only if its AUROC is higher by more than the standard error of the last one's (as in the
    one-standard-error rule of Breiman et al., Classification and Regression Trees, 1984). Closer ones differ
    by chance, and the last has learned from all rows and ended at a learning rate of nearly 0.
    """
    metrics = metrics_at(history, last)
    top = best(history, [*kept, last])
    if top is None or AUROC not in metrics:
        return last
    lead = metrics_at(history, top)[AUROC] - metrics[AUROC]
    return top if lead > metrics[AUROC_ERROR] else last


def choice_text(
    history: Sequence[Mapping[str, Any]], update: int, last: int, product: str = "adapter"
) -> str:
    """What the user is told if an earlier update than the last is kept; "" otherwise."""
    if update == last:
        return ""
    before, after = (metrics_at(history, one)[AUROC] for one in (update, last))
    return (
        f"Kept: the {product} of update {update}, AUROC {before:.3f}; "
        f"after the last update, {last}, it was {after:.3f}. --keep last keeps that one."
    )


# ---- the weights of the best ---------------------------------------------------------------------


def weights_path(folder: str | Path, update: int) -> Path:
    """Where a run keeps the adapter or model of a validation that was the best so far."""
    return Path(folder) / f"best-{update}"


def kept_updates(folder: str | Path) -> list[int]:
    """The updates whose weights are kept in a run's folder as the best so far."""
    names = [path.name.removeprefix("best-") for path in Path(folder).glob("best-*")]
    return sorted(int(name) for name in names if name.isdecimal())
