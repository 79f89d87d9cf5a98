"""What a run is going to take, printed before it starts: updates, tokens, memory and disk space."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from deepred_common import cli
from deepred_common.training import disk_estimate, memory_estimate, recovery, token_rows, whole_model
from deepred_common.training.run_folder import RunChoice

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from deepred_common.training.machine import Machine
    from deepred_common.training.settings import TrainSettings
    from deepred_common.training.setup import Rows


class Plan(NamedTuple):
    """What is the same in all processes of a run."""

    run: RunChoice
    checkpointing: bool  # activations are computed again in the backward pass


def make(
    settings: TrainSettings,
    run: RunChoice,
    config: PretrainedConfig,
    rows: Rows,
    machine: Machine,
    before: memory_estimate.Room,
    needs_reference: bool,
) -> Plan:
    """Estimate memory and disk space from the base's config, and print the plan; the same in all processes.

    before: the room before the base wrote replies, for which it was loaded. needs_reference: of
    TrainSettings.
    UserError if not even one checkpoint fits on the disk; a dry run writes none and only warns.
    """
    from accelerate.utils import broadcast_object_list

    memory = memory_estimate.estimate(
        settings,
        config,
        rows.training,
        machine.device,
        machine.dtype,
        needs_reference,
        before=before,
    )
    updates = -(-len(rows.training) // settings.rows_per_update) * settings.epochs
    print(token_rows.lengths_line(rows.training))
    tokens = int(token_rows.column(rows.training, "length").sum()) * settings.epochs
    print(
        f"Plan: {updates} weight updates of {settings.rows_per_update} rows, {tokens} tokens in all; "
        f"{memory.text}",
        flush=True,
    )
    final_bytes = whole_model.saved_type(config).itemsize if settings.full else disk_estimate.ADAPTER_BYTES
    disk = disk_estimate.estimate(settings, run, memory.shape, updates, final_bytes)
    print(disk.text, flush=True)
    if disk.advice:
        cli.warn(disk.advice)
    if not memory.fits:
        cli.warn(f"that does not fit. In this order: {', '.join(recovery.less_memory(settings))}.")
    plan = Plan(run, memory.checkpointing)
    if machine.processes.num_processes == 1:
        return plan
    # Each process chose alone, by its own clock and free memory; the first one's choice counts.
    folder, checkpointing = broadcast_object_list([run.folder, memory.checkpointing])
    return Plan(dataclasses.replace(run, folder=folder), checkpointing)
