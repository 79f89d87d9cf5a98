#!/usr/bin/env python3
"""How near is the time that finetune_temporal.py prints after ten updates to the time that it then takes?

Runs the script in a process of its own and reads what it prints, as it is printed. One row of the table for
each precision: the time left as printed, the time from then until "Training finished", and their ratio.

    python bench/time_estimate.py --base output/base/SmolLM2-135M-Instruct --precision fp32
    python bench/time_estimate.py --base small --rows 400 --precision bf16 fp32 --resume

--base takes a folder, a hub name, or a size of random_base.py (tiny, small, large). --resume also stops each
run with Ctrl-C soon after its estimate, resumes it, and prints what was estimated for the rest. Flags of
finetune_temporal.py that this script does not know are passed on to it.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import random_base

from deepred_common import cli, devices, paths

ESTIMATE = re.compile(r"about ([\d.]+) (s|min|h) of training left")
BAR = re.compile(r"(\d+/\d+) \[[^\]]*update")
SECONDS = {"s": 1, "min": 60, "h": 3600}
# Eight rows an update, as in the quickstart, without replay, whose replies take time of their own.
EIGHT_ROWS = ("--learning_rate", "6e-4", "--batch_size", "8", "--gradient_accumulation_steps", "1")
UPDATES_BEFORE_CTRL_C = 5  # after the estimate


@dataclass
class Timed:
    """What a run printed of its time, in seconds; None if nothing. taken: from then to its end."""

    estimate: float | None = None
    taken: float | None = None
    updates: str = ""


class Run:
    """A run of finetune_temporal.py, whose output is read as it comes."""

    def __init__(self, command: list[str], stop_after_estimate: bool = False) -> None:
        self.timed = Timed()
        self._estimated_at: float | None = None
        self._bars_until_stop = UPDATES_BEFORE_CTRL_C if stop_after_estimate else None
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )
        errors: list[str] = []
        reader = threading.Thread(target=self._read_errors, args=(errors,), daemon=True)
        reader.start()
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("Training finished") and self._estimated_at:
                self.timed.taken = time.perf_counter() - self._estimated_at
        reader.join()
        if self._process.wait() not in (cli.EXIT_OK, cli.EXIT_INTERRUPTED):
            sys.exit(f"{shlex.join(command)} failed:\n" + "".join(errors))

    def _read_errors(self, errors: list[str]) -> None:
        # Text mode makes a newline of the carriage return that ends each state of the bar.
        assert self._process.stderr
        for line in self._process.stderr:
            if estimate := ESTIMATE.search(line):
                self.timed.estimate = float(estimate[1]) * SECONDS[estimate[2]]
                self._estimated_at = time.perf_counter()
            elif bar := BAR.search(line):
                self.timed.updates = bar[1]
                self._stop_if_due()
            else:
                errors.append(line)

    def _stop_if_due(self) -> None:
        if self._bars_until_stop is None or self._estimated_at is None:
            return
        self._bars_until_stop -= 1
        if self._bars_until_stop == 0:
            self._process.send_signal(signal.SIGINT)


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(description="Compare the estimated time of a training with the time taken.")
    parser.add_argument(
        "--base", type=cli.model, default=str(paths.EMBEDDED_BASE), help="default: %(default)s"
    )
    parser.add_argument("--rows", type=int, default=400, help="training examples (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=(devices.AUTO, *devices.PRECISIONS),
        default=[devices.AUTO],
        help="one row each (default: auto)",
    )
    parser.add_argument("--resume", action="store_true", help="also interrupt and resume each run")
    args, passed_on = parser.parse_known_args(argv)
    print(f"{'':<28}{'updates':>10}{'estimate':>11}{'taken':>10}{'ratio':>8}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base = args.base
        if base in random_base.SIZES:
            base = str(random_base.make(folder / base, base))
        data = folder / "examples.jsonl"
        lines = paths.dataset_file("dev_path").read_text(encoding="utf-8").splitlines()
        while len(lines) < args.rows:
            lines += lines
        data.write_text("\n".join(lines[: args.rows]) + "\n", encoding="utf-8")
        for precision in args.precision:
            script = str(paths.ROOT / "scripts/finetune_temporal.py")
            command = [sys.executable, script, "--dev", "--dev_path", str(data), "--model_name", base]
            command += [
                *EIGHT_ROWS,
                "--replay_share",
                "0",
                "--epochs",
                str(args.epochs),
                "--precision",
                precision,
                *passed_on,
            ]
            show(precision, Run([*command, "--output_dir", str(folder / precision)]).timed)
            if args.resume:
                resumed = [*command, "--output_dir", str(folder / f"{precision}-resumed")]
                Run(resumed, stop_after_estimate=True)
                show(f"{precision}, resumed", Run([*resumed, "--resume_latest"]).timed)
    return cli.EXIT_OK


def show(name: str, timed: Timed) -> None:
    if timed.estimate is None or timed.taken is None:
        print(f"{name:<28}{timed.updates:>10}  no estimate was printed: too few updates", flush=True)
        return
    print(
        f"{name:<28}{timed.updates:>10}{timed.estimate:>9.0f} s{timed.taken:>8.1f} s"
        f"{timed.estimate / timed.taken:>8.2f}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
