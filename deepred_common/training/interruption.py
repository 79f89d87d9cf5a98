"""Ctrl-C, SIGTERM and a closed terminal in a training: it saves first, and all processes stop together.

transformers is imported at the top, so import this module only where a model is trained.
"""

from __future__ import annotations

import os
import signal
import stat
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from deepred_common import cli

_HANGUP = getattr(signal, "SIGHUP", None)  # a closed terminal, or a lost connection; Windows has none


def _goes_with_terminal(descriptor: int) -> bool:
    """True of a terminal, and of a pipe: its reader, such as tee, ends with the terminal."""
    try:
        return os.isatty(descriptor) or stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:  # it is closed
        return False


class StopAndSave(TrainerCallback):
    """The first Ctrl-C, SIGTERM or closed terminal saves a checkpoint after the update and stops.

    A second Ctrl-C or SIGTERM stops at once. `requested` is True once the first has happened, in any of the
    processes.
    """

    def __init__(self, resume_command: str) -> None:
        """resume_command: what resumes the run, for the message of one that stops at once."""
        self.requested = False
        self._resume_command = resume_command
        self._signalled = False  # this process
        self._handlers: dict[int, Any] = {}
        self._lost: list[int] = []  # descriptors that a closed terminal takes with it

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if _HANGUP and signal.getsignal(_HANGUP) != signal.SIG_IGN:  # under nohup the run goes on
            numbers.append(_HANGUP)
        self._lost = [number for number in (1, 2) if _goes_with_terminal(number)]
        self._handlers = {number: signal.signal(number, self._request) for number in numbers}

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._agree(args)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._agree(args)
        if self.requested:
            control.should_save = control.should_training_stop = True

    def _agree(self, args: TrainingArguments) -> None:
        """Set `requested` in all processes: if one saved and stopped alone, the others would wait for it."""
        if args.world_size == 1:
            self.requested = self._signalled
            return
        flag = torch.tensor(int(self._signalled), device=args.device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        self.requested = bool(flag)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if number == _HANGUP:
            for descriptor in self._lost:  # each line would fail, and end the training
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
            if self._signalled:  # the shell and the system both send one
                return
        if self._signalled:
            raise cli.Interrupted(
                "stopped at once; an unfinished checkpoint is skipped. "
                f"Resume with:\n  {self._resume_command}"
            )
        self._signalled = True
        cli.progress("\nstopping after this update and its checkpoint (press Ctrl-C again to stop at once) …")
