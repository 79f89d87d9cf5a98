"""When a training stops with an error: what is saved, what helps, and the exact command that resumes it."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepred_common import cli, devices, paths
from deepred_common.cli import UserError
from deepred_common.foreign_text import printable
from deepred_common.training import checkpoints

if TYPE_CHECKING:
    from deepred_common.training.settings import TrainSettings

SHORT_LENGTH = 256  # tokens: most question-answer examples fit
FREQUENT_SAVES = 100  # updates between checkpoints on a GPU that fails
SLOWER = 10  # times lower: the learning rate that is advised after a divergence
ERROR_LENGTH = 100  # characters shown of a driver's message


class Diverged(Exception):
    """A loss, or what the model computes, is not a finite number any more; the message says which."""


def less_memory(settings: TrainSettings) -> list[str]:
    """What makes training take less memory, the mildest first."""
    steps = []
    if settings.batch_size > 1:
        steps.append(" ".join(f"--{name} {value}" for name, value in _smaller_batch(settings).items()))
    if settings.full:
        steps.append("a new run without --full, which trains an adapter")
    elif not settings.quantisation_bits:
        steps.append("--use_4bit in a new run (experimental on AMD)")
    if settings.max_seq_length > SHORT_LENGTH:
        steps.append(f"--max_seq_length {SHORT_LENGTH} in a new run")
    return [*steps, "a smaller model"]


def _smaller_batch(settings: TrainSettings) -> dict[str, int]:
    """The flags of half the batch, or of one example; an update learns from as many rows as before."""
    smaller = settings.batch_size // 2 if settings.batch_size % 2 == 0 else 1
    accumulated = settings.gradient_accumulation_steps * settings.batch_size // smaller
    return {"batch_size": smaller, "gradient_accumulation_steps": accumulated}


def resume_command(folder: Path, **changes: object) -> str:
    """The exact command that resumes the run in `folder`: this process's own, with other values for some
    flags."""
    return f"{_command(folder, changes)} --resume_latest"


def _command(folder: Path | None, changes: Mapping[str, object]) -> str:
    """This process's own command, starting anew in `folder` (None: one that is named by the time)."""
    replaced = {f"--{name}" for name in changes} | {"--output_dir", "--resume_from_checkpoint"}
    words = []
    skip_value = False
    for word in sys.argv[1:]:
        flag, equals, _ = word.partition("=")
        if flag in replaced:
            skip_value = not equals
        elif skip_value:
            skip_value = False
        elif word != "--resume_latest":
            words.append(word)
    for name, value in changes.items():
        words += [f"--{name}", str(value)]
    output = ["--output_dir", paths.quoted(folder)] if folder else []
    return " ".join([*_launcher(), paths.quoted(paths.TRAINING_SCRIPT), *map(shlex.quote, words), *output])


def _launcher() -> list[str]:
    """The words before the script's name: "python", or what started the processes of this run."""
    if "WORLD_SIZE" not in os.environ:
        return ["python"]
    import psutil

    launcher = psutil.Process().parent()
    words = launcher.cmdline() if launcher else []
    if sys.argv[0] in words:  # accelerate's or torchrun's own command, with its options
        return [shlex.quote(word) for word in words[: words.index(sys.argv[0])]]
    return ["accelerate", "launch", "--num_processes", os.environ["WORLD_SIZE"]]


@contextlib.contextmanager
def explained(settings: TrainSettings, folder: Path, trainer: Any) -> Iterator[None]:
    """Turn what fails inside into the UserError of `explain`.

    A process other than the first, which alone prints errors, says here what failed in it.
    """
    try:
        yield
    except UserError:
        raise  # it says all by itself
    except Exception as error:
        explanation = explain(settings, folder, trainer, error)
        if not (cli.is_main_process() or isinstance(error, Diverged)):  # in that all processes agree
            text = f"error in process {os.environ['RANK']}: {explanation}"
            print(printable(text), file=sys.stderr, flush=True)
        raise explanation from error


def explain(settings: TrainSettings, folder: Path, trainer: Any, error: Exception) -> UserError:
    """A UserError that says what stopped the training, what is saved and how to resume.

    trainer: a trainer.TemporalTrainer.
    """
    update = trainer.state.global_step
    if devices.is_out_of_memory(error):
        return _out_of_memory(settings, folder, trainer, error)
    newest = checkpoints.latest(folder)
    if newest:
        saved = f"updates up to {newest.name.partition('-')[2]} are saved in {paths.shown(newest)}"
    else:
        saved = "no checkpoint was saved yet"
    command = resume_command(folder)
    if text := cli.write_error(error):
        return UserError(f"{text}\nAfter update {update}: {saved}. Resume with:\n  {command}")
    if isinstance(error, Diverged):
        return _diverged(settings, folder, trainer, f"{error} after update {update}", newest)
    if devices.is_lost(error):
        quantised = settings.use_4bit or settings.use_8bit
        without = "; a new run without --use_4bit and --use_8bit" if quantised else ""
        saves = max(1, min(FREQUENT_SAVES, settings.save_steps // 2))
        reason = str(error).splitlines()[0][:ERROR_LENGTH]
        return UserError(
            f"the GPU stopped responding after update {update} ({reason}); {saved}. "
            f"Resume with:\n  {command}\n"
            f"If it happens again: export AMD_SERIALIZE_KERNEL=3 AMD_SERIALIZE_COPY=3; "
            f"a smaller batch with more accumulation; --save_steps {saves}{without}."
        )
    if type(error).__module__.partition(".")[0] == "wandb":
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return UserError(
            f"Weights & Biases stopped the training after update {update} ({reason}); {saved}.\n"
            f"Log in (wandb login), or keep its log here (export WANDB_MODE=offline). Then:\n  {command}"
        )
    # An unexpected error: its traceback for us first, then, at the end of the log, how to resume.
    traceback.print_exception(error)
    return UserError(
        f"the training stopped after update {update} (the error is above); {saved}. Resume with:\n  {command}"
    )


def _diverged(
    settings: TrainSettings, folder: Path, trainer: Any, what: str, newest: Path | None
) -> UserError:
    if trainer.state.global_step == 0:
        return UserError(
            f"the {what} is not a finite number. No weight has changed yet, so the base itself computes it.\n"
            "Try --precision fp32, or another base."
        )
    rate = min(settings.learning_rate / SLOWER, settings.default_learning_rate)
    # The folder of this run stays as it is.
    other = folder.with_name(f"{folder.name}-lr{rate:g}") if settings.output_dir else None
    objective = settings.objective
    endless = (
        f" The loss of --objective {objective.name} has no lower bound, so the model is spoilt in the end: "
        "take fewer --epochs, or npo or simnpo."
        if objective.unbounded
        else ""
    )
    fp16 = " fp16 overflows easily: --precision bf16 or fp32 may be enough." if trainer.args.fp16 else ""
    anew = _command(other, {"learning_rate": f"{rate:g}"})
    text = (
        f"the training diverged: the {what} is not a finite number.{endless}{fp16} "
        f"Start anew, slower:\n  {anew}\n"
    )
    if newest is None:
        return UserError(f"{text}No checkpoint was saved before.")
    return UserError(
        f"{text}The last good state is kept in {paths.shown(newest)}. If the learning rate is not to blame:\n"
        f"  {resume_command(folder)}"
    )


def _out_of_memory(settings: TrainSettings, folder: Path, trainer: Any, error: Exception) -> UserError:
    update = trainer.state.global_step
    traceback.clear_frames(error.__traceback__)  # they hold the tensors that did not fit
    devices.free_memory()
    checkpoint = trainer.save_now()
    if checkpoint and checkpoints.step_of(checkpoint) == update:
        saved = f"the state is saved in {paths.shown(checkpoint)}"
    elif checkpoint:
        saved = f"updates up to {checkpoints.step_of(checkpoint)} are saved in {paths.shown(checkpoint)}"
    else:
        saved = "no checkpoint was saved yet" if update else "nothing is lost yet"
    remedies = less_memory(settings)
    if settings.batch_size == 1:
        advice = f"One example at a time does not fit. Try in this order: {', '.join(remedies)}."
    else:
        command = resume_command(folder, **_smaller_batch(settings))
        advice = (
            f"Resume with a smaller batch, which learns the same:\n  {command}\n"
            f"If that does not fit either: {', '.join(remedies[1:])}."
        )
    return UserError(f"out of memory after update {update}; {saved}. {advice}")
