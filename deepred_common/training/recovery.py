"""When a training breaks off: what is kept, and the exact command that goes on."""

import errno
import os
import sys
import traceback

from deepred_common import devices, paths
from deepred_common.cli import UserError
from deepred_common.training import run_folder


def less_memory(args):
    """What makes training take less memory, the mildest first."""
    return [
        *([f"--batch_size {args.batch_size // 2}"] if args.batch_size > 1 else []),
        *([] if args.use_4bit or args.use_8bit else ["--use_4bit in a new run (NVIDIA only)"]),
        "--max_seq_length 256 in a new run",
        "a smaller model",
    ]


def resume_command(script, folder, **changes):
    """The exact command that goes on with the run in `folder`: this process's own, with other values for some flags."""
    drop = {f"--{name}" for name in changes} | {"--output_dir", "--resume_from_checkpoint", "--resume_latest"}
    words, skip = [], False
    for word in sys.argv[1:]:
        flag = word.partition("=")[0]
        if flag in drop:
            skip = "=" not in word and flag != "--resume_latest"
        elif skip:
            skip = False
        else:
            words.append(word)
    start = ["accelerate", "launch", "<its options>"] if "WORLD_SIZE" in os.environ else ["python"]
    for name, value in changes.items():
        words += [f"--{name}", str(value)]
    return " ".join(
        [*start, paths.shown(script), *words, "--output_dir", paths.shown(folder), "--resume_latest"]
    )


def explain(script, args, folder, trainer, error):
    """A UserError that says what broke the training off, what is kept and how to go on; None for a full disk (cli.run tells of it)."""
    if os.strerror(errno.ENOSPC) in str(error):
        return None
    step = trainer.state.global_step
    if devices.is_out_of_memory(error):
        traceback.clear_frames(error.__traceback__)  # they hold the tensors that did not fit
        devices.free_memory()
        saved = trainer.save_now()
        batch = args.batch_size // 2 if args.batch_size % 2 == 0 else 1
        if args.batch_size == 1:
            how = f"One example at a time does not fit. In this order: {', '.join(less_memory(args))}."
        else:
            command = resume_command(
                script,
                folder,
                batch_size=batch,
                gradient_accumulation_steps=args.gradient_accumulation_steps * args.batch_size // batch,
            )
            how = (
                f"Go on with a smaller batch, which learns the same:\n  {command}\n"
                f"If that is too much as well: {', '.join(less_memory(args)[1:])}."
            )
        kept = f"its state is saved in {paths.shown(saved)}" if saved else "nothing is lost yet"
        return UserError(f"out of memory after update {step}; {kept}. {how}")
    newest = run_folder.latest_checkpoint(folder)
    kept = (
        f"updates up to {newest.name.partition('-')[2]} are saved in {paths.shown(newest)}"
        if newest
        else "no checkpoint was saved yet"
    )
    if devices.is_lost(error):
        remedies = "leave --use_4bit and --use_8bit out; " if args.use_4bit or args.use_8bit else ""
        return UserError(
            f"the GPU stopped answering after update {step} ({str(error).splitlines()[0][:100]}); {kept}. Go on with:\n"
            f"  {resume_command(script, folder)}\nIf it happens again: {remedies}"
            "export AMD_SERIALIZE_KERNEL=3 AMD_SERIALIZE_COPY=3; "
            f"a smaller batch with more accumulation; --save_steps {max(1, min(100, args.save_steps // 2))}."
        )
    # An error nobody foresaw: its traceback for us, and after it, where a user looks in the morning, how to go on.
    traceback.print_exception(error)
    return UserError(
        f"the training broke off after update {step} (see above); {kept}. Go on with:\n  {resume_command(script, folder)}"
    )
