"""The model that a run trains, an adapter on the base or a whole model: how it is loaded and saved."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from deepred_common.training import setup, whole_model
from deepred_common.training.run_folder import Saver

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from deepred_common.training.machine import Machine
    from deepred_common.training.settings import TrainSettings


class TrainedModel(NamedTuple):
    """model: a PeftModel, or a PreTrainedModel. reference: the base beside it, or None. save: for final/."""

    model: Any
    reference: PreTrainedModel | None
    save: Saver


def load(
    settings: TrainSettings,
    machine: Machine,
    load_base: Callable[[], PreTrainedModel],
    needs_reference: bool,
    checkpointing: bool,
    revision: str | None,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
) -> TrainedModel:
    """The TrainedModel that the settings mean.

    load_base() gives the base, the same one each time. needs_reference: of TrainSettings. checkpointing: of
    Plan. revision: the hub's commit of the base. config, tokenizer: the base's, saved with a whole model.
    """
    from transformers import set_seed

    if settings.full:
        terms = whole_model.terms_folder(settings.model_name, revision)
        reference = load_base() if needs_reference else None
        model = whole_model.load(settings, machine)
        set_seed(settings.seed)  # now: loading may draw random numbers, and so may the replies
        save = functools.partial(whole_model.save, config=config, tokenizer=tokenizer, base_terms=terms)
        return TrainedModel(model, reference, save)
    base = load_base()
    set_seed(settings.seed)
    adapter = setup.add_adapter(settings, base, checkpointing, revision)
    return TrainedModel(adapter, None, setup.save_adapter)
