"""How sharp a cutoff can a base get? What its hidden states tell, before any tuning, of a question's date.

A linear probe (Alain and Bengio, arXiv 1610.01644) reads the side of the cutoff out of the states in which a
model leaves a question. It is taught with some facts and tried on others. The one model of which it is known
got about as far when it was tuned on as many facts (SmolLM2-135M: docs/benchmarks.md). Of a model that was
tuned, its own refusing is measured as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from deepred_common import chat, stats
from deepred_common.cli import UserError
from deepred_common.data.facts import Fact, read_bank
from deepred_common.data.facts import side as side_of_fact
from deepred_common.data.split import SHIPPED_SEED, TEST, groups_of, split
from deepred_common.dates import year_of
from deepred_common.examples import SIDES, UNLEARN
from deepred_common.inference import backends, local_model, padding
from deepred_common.inference.local_model import LocalModel
from deepred_common.inference.protocol import BackendSettings
from deepred_common.stats import MeasuredAuroc

if TYPE_CHECKING:
    import numpy as np

DEPTHS = (0.25, 0.5, 0.75)  # of the layers; the last ones turn to the next word
FOLDS = 5  # each fact is tried once, by a probe taught with four fifths of the others
SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of the facts taught with, for the learning curve
SPANS = (10, 30, 100)  # years on each side of the cutoff
LEAST_OF_A_SIDE = 20  # facts, below which a figure says nothing
# The inverse strength of the probe's L2 penalty, on standardised states. There are as many states as facts:
# without a strong penalty the probe learns the facts by heart.
PENALTY = 1e-3
SEED = 0
# A model that refuses a smaller share of the late questions at its first token was not tuned to. The embedded
# base refuses none.
LEAST_REFUSED = 0.1


@dataclass(frozen=True)
class Refusing:
    """How well a model's own refusing, and the probe, tell the sides of the facts held out for the test.

    own: by the share of the first token's probability on tokens that begin a refusal. probe: the same facts.
    """

    own: MeasuredAuroc
    probe: MeasuredAuroc


@dataclass(frozen=True)
class Probe:
    """What the probe found.

    depths: {share of the layers: figure}; all others are of the `best` of them. groups: {name: figure}.
    curve: (facts taught with, AUROC) of growing shares of the facts. margins: per fact, how late the probe
    takes it to be (log-odds of the side after the cutoff); late: whether it is. refusing: of a model that
    refuses, else None.
    """

    depths: dict[float, MeasuredAuroc]
    best: float
    groups: dict[str, MeasuredAuroc]
    curve: list[tuple[int, float]]
    margins: list[float]
    late: list[bool]
    refusing: Refusing | None = None


class ProbeFigures(TypedDict):
    """What --date_probe writes as JSON: a Probe's fields, and what was probed."""

    model: str
    cutoff: str
    probe: dict[str, object]


def figures(probe: Probe, model: str, cutoff: str) -> ProbeFigures:
    """The file's content for a probe of `model`."""
    return {"model": model, "cutoff": cutoff, "probe": dataclasses.asdict(probe)}


def check(path: str) -> None:
    """UserError unless the model at `path` is of a kind whose hidden states can be read."""
    backends.check(path)
    if backends.kind_of(path) not in (local_model.FOLDER, local_model.ADAPTER):
        raise UserError(
            "--date_probe reads hidden states, which only a model folder gives; give --model_path the folder "
            f"or hub name that {path} was made from."
        )


def probe_model(path: str, settings: BackendSettings, cutoff: str) -> Probe:
    """The Probe of the model at `path`, by the questions of the bank. UserError if the bank has too few."""
    bank = [fact for fact in read_bank() if side_of_fact(fact, cutoff)]
    require_both_sides(bank, cutoff)
    with backends.opened(settings, path) as model:
        assert isinstance(model, LocalModel)  # check() saw to that
        states = question_states(model, [fact.question for fact in bank])
        shares = refusal_shares(model, held_out(bank, cutoff))
    probe = probe_facts(bank, states, cutoff)
    return dataclasses.replace(probe, refusing=measure_refusing(bank, probe, shares))


def require_both_sides(facts: Sequence[Fact], cutoff: str) -> None:
    """UserError if there are too few facts on a side of the cutoff to say anything."""
    for side in SIDES:
        count = sum(side_of_fact(fact, cutoff) == side for fact in facts)
        if count < FOLDS * LEAST_OF_A_SIDE:
            raise UserError(
                f"the bank has {count} {side} facts for the cutoff {cutoff}; a date probe needs "
                f"{FOLDS * LEAST_OF_A_SIDE}. Choose another cutoff, or add facts to datasets/facts/."
            )


def held_out(bank: Sequence[Fact], cutoff: str) -> list[Fact]:
    """The facts of both sides that the builder keeps for the test: like the others, but not trained on."""
    test = split(bank, cutoff, SHIPPED_SEED)[TEST]
    return [fact for side in SIDES for fact in test[side]]


def refusal_shares(local: LocalModel, facts: Sequence[Fact]) -> dict[str, float]:
    """{id: the share of the first token's probability on what begins a refusal} of the facts' questions."""
    # One token of each reply, after what the template writes first: that decides nothing.
    brief = LocalModel(local.model, local.tokenizer, 1, local.batch_size, opens_reply=True)
    shares = {
        facts[number].id: reply.refusal_share for number, reply in brief.ask([f.question for f in facts])
    }
    return {fact: share for fact, share in shares.items() if share is not None}


def measure_refusing(bank: Sequence[Fact], probe: Probe, shares: Mapping[str, float]) -> Refusing | None:
    """The Refusing of a model with these refusal shares; None if it refuses too little, or of too few."""
    import numpy as np

    known = np.array([fact.id in shares for fact in bank])
    late, groups = np.array(probe.late)[known], np.array(groups_of(bank))[known]
    own = np.array([shares[fact.id] for fact in bank if fact.id in shares])
    if min(late.sum(), (~late).sum()) < LEAST_OF_A_SIDE or (own[late] > 0.5).mean() < LEAST_REFUSED:
        return None
    return Refusing(
        stats.measured_auroc(own, late, groups),
        stats.measured_auroc(np.array(probe.margins)[known], late, groups),
    )


def question_states(local: LocalModel, questions: Sequence[str]) -> np.ndarray:
    """What the model makes of each question: float32, (DEPTHS, questions, 2 x hidden size).

    At each depth the state of the prompt's last token and the mean over the tokens that are not the same in
    all prompts. The first says what the model is about to answer, the second what the question is about.
    """
    import numpy as np
    import torch
    from tqdm import tqdm
    from transformers import DynamicCache

    model = local.model
    ids = [chat.prompt_ids(local.tokenizer, question) for question in questions]
    # Template and system prompt are often longer than the question: they are read once for a batch.
    # At least one token of each is its own.
    shared = min(padding.shared_start(ids), min(map(len, ids)) - 1)
    layers = model.config.get_text_config().num_hidden_layers
    at = [max(1, round(depth * layers)) for depth in DEPTHS]
    # Without the head: over 49 000 or 262 000 words it costs more than some layers.
    body, device = model.base_model, model.device

    def states_of(batch: list[int]) -> list[np.ndarray]:
        width = max(len(ids[place]) for place in batch)
        tokens = torch.tensor([ids[n] + [0] * (width - len(ids[n])) for n in batch], device=device)
        lengths = torch.tensor([len(ids[n]) for n in batch], device=device)
        mask = (torch.arange(width, device=device)[None, :] < lengths[:, None]).long()
        cache = DynamicCache(config=model.config)
        with torch.inference_mode():
            if shared:
                body(input_ids=tokens[:1, :shared], past_key_values=cache, use_cache=True)
                cache.batch_repeat_interleave(len(batch))
            states = body(
                input_ids=tokens[:, shared:],
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
                output_hidden_states=True,
            ).hidden_states
        own = mask[:, shared:, None].float()
        rows = torch.arange(len(batch), device=device)
        by_depth = []
        for layer in at:
            state = states[layer].float()
            mean = (state * own).sum(1) / own.sum(1)
            last = state[rows, lengths - shared - 1]
            by_depth.append(torch.cat([last, mean], dim=1))
        return list(torch.stack(by_depth, dim=1).cpu().numpy())

    reading = tqdm(local.in_batches(ids, states_of), total=len(ids), desc="reading", unit="question")
    by_question = dict(reading)
    return np.stack([by_question[number] for number in range(len(ids))], axis=1)


def margins(taught: np.ndarray, late: Sequence[bool], tried: np.ndarray) -> np.ndarray:
    """The log-odds of the side after the cutoff of each row of `tried`, by a probe taught with `taught`.

    Both are (questions, features). Both sides weigh the same.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(
        StandardScaler(), LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=1000)
    )
    return probe.fit(taught, late).decision_function(tried)


def probe_facts(facts: Sequence[Fact], states: np.ndarray, cutoff: str) -> Probe:
    """The Probe of facts, each on one side of the cutoff.

    states: of their questions, as question_states gives them. Facts of one subject or pair are taught or
    tried together. The interval is a bootstrap over these groups (1 000 draws).
    """
    import numpy as np

    late = np.array([side_of_fact(fact, cutoff) == UNLEARN for fact in facts])
    groups = np.array(groups_of(facts))
    folds = np.random.default_rng(SEED).permutation(groups.max() + 1)[groups] % FOLDS
    by_depth = {depth: _cross_tried(states[row], late, folds) for row, depth in enumerate(DEPTHS)}

    def figure(chosen: np.ndarray, depth: float) -> MeasuredAuroc | None:
        if min(late[chosen].sum(), (~late)[chosen].sum()) < LEAST_OF_A_SIDE:
            return None
        return stats.measured_auroc(by_depth[depth][chosen], late[chosen], groups[chosen])

    everything = np.ones(len(facts), bool)
    depths = {depth: found for depth in DEPTHS if (found := figure(everything, depth))}
    best = max(depths, key=lambda depth: depths[depth].auroc)
    border = year_of(cutoff)
    assert border is not None
    years = np.array([year if (year := year_of(fact.date)) is not None else -np.inf for fact in facts])
    chosen_by_name = {
        "known to the small base": np.array([fact.is_known for fact in facts]),
        "dated after 1900": years >= 1900,
    } | {f"within {span} years of the cutoff": np.abs(years - border) <= span for span in reversed(SPANS)}
    curve = []
    for share in SHARES:
        scores = (
            by_depth[best]
            if share == 1
            else _cross_tried(states[DEPTHS.index(best)], late, folds, share, groups)
        )
        taught = round(len(facts) * (1 - 1 / FOLDS) * share)
        curve.append((taught, stats.auroc(scores[~late], scores[late])))
    return Probe(
        depths,
        best,
        {name: found for name, chosen in chosen_by_name.items() if (found := figure(chosen, best))},
        curve,
        by_depth[best].tolist(),
        late.tolist(),
    )


def _cross_tried(
    states: np.ndarray,
    late: np.ndarray,
    folds: np.ndarray,
    share: float = 1.0,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """The margin of each question by a probe taught with `share` of the groups of the other folds."""
    import numpy as np

    found = np.zeros(len(states))
    taken = np.ones(len(states), bool)
    if groups is not None:
        taken = np.random.default_rng(SEED).random(groups.max() + 1)[groups] < share
    for fold in range(FOLDS):
        taught = (folds != fold) & taken
        found[folds == fold] = margins(states[taught], late[taught], states[folds == fold])
    return found
