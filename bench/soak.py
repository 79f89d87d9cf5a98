#!/usr/bin/env python3
"""Soak: kill -9 and other faults, again and again. Nothing may be lost, half-written or unexplained.

Runs the real scripts as processes on a tiny model (or --base), kills them at random moments (half of them
uniform over the run's measured length, half just after a file began to be written), resumes, and compares
what comes out with undisturbed runs, bit for bit. The faults are in soak_faults.py: a full disk, a read-only
folder (both on a small tmpfs, so only as root), servers that misbehave, two runs in one folder, a clock set
back, files changed while they are read. Linux only. Prints one table; exit code 1 if there was a loss.

    python bench/soak.py --kills 100
    python bench/soak.py --only train merge --kills 20 --seed 7
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import soak_bench
import soak_faults
from soak_bench import Bench, Loss, Process, Row, digest, fake_server, hidden, require

from deepred_common import cli
from deepred_common.training import checkpoints

WRITING = 0.25  # seconds after a file appeared within which a targeted kill falls
SHARES = {"train": 0.5, "merge": 0.2, "convert": 0.15, "evaluate": 0.15}  # of --kills


def kill_somewhere(process: Process, dice: random.Random, seconds: float, begins: Callable[[], bool]) -> bool:
    """Kill at a random moment of `seconds`, or shortly after `begins`; False if it ended before."""
    if dice.random() < 0.5:
        moment = dice.uniform(0, seconds)
        process.wait_for(lambda: process.age() >= moment)
    elif process.wait_for(begins):
        moment = process.age() + dice.uniform(0, WRITING)
        process.wait_for(lambda: process.age() >= moment)
    return process.kill().code == -9


def train(bench: Bench, row: Row, kills: int, dice: random.Random, seconds: float) -> None:
    """Chains of killed and resumed trainings; each chain that ends is compared."""
    run, saved = bench.folder / "run", 0
    while row.kills < kills:
        before = names(run)
        process = bench.start("finetune_temporal", *bench.training(run), "--resume_latest")
        killed = kill_somewhere(process, dice, seconds, lambda old=before: bool(names(run) - old))
        row.done += 1
        row.kills += killed
        if (run / "final").exists():
            bench.require_same_final(run)
        newest = bench.require_sound_checkpoints(run)
        require(newest >= saved, f"checkpoint-{saved} was whole before the kill, now {newest} is the newest")
        saved = newest
        row.left += ["torn checkpoint" for path in checkpoints.of_run(run) if checkpoints.fault(path)]
        row.left += [f"temporary {path.name}" for path in run.glob(".*")]
        if not killed or row.kills == kills:
            finish_training(bench, run)
            saved = 0


def names(run: Path) -> set[str]:
    """The checkpoints of a run, and what is being written there: a run without any has one at once."""
    return {path.name for path in run.glob("checkpoint-*")} | set(hidden(run))


def finish_training(bench: Bench, run: Path) -> None:
    """Resume a run to its end, compare it, see that nothing stays behind, and remove it."""
    bench.done("finetune_temporal", *bench.training(run), "--resume_latest")
    bench.require_same_run(run)
    require(not hidden(run), f"left behind: {hidden(run)}")
    shutil.rmtree(run)


def outputs(name: str, output_name: str) -> Callable[[Bench, Row, int, random.Random, float], None]:
    """Kills of a script that writes one output: it is there whole, or as it was before."""

    def case(bench: Bench, row: Row, kills: int, dice: random.Random, seconds: float) -> None:
        wanted, place = bench.reference / output_name, bench.folder / f"out-{name}"
        place.mkdir()
        output = place / output_name
        command = [*(bench.merging if name == "merge_lora" else bench.converting)(output), "--overwrite"]
        while row.kills < kills:
            if dice.random() < 0.5 and not output.exists():
                make_older(output, wanted)
            before = digest(output) if output.exists() else None
            process = bench.start(name, *command)
            killed = kill_somewhere(process, dice, seconds, lambda: bool(hidden(place)))
            row.done += 1
            row.kills += killed
            now = digest(output) if output.exists() else None
            require(now in (before, digest(wanted)), f"{output.name} is neither as before nor whole")
            soak_bench.require_no_orphans(place)
            row.left += ["temporary " + name for name in hidden(place) if "/" not in name and killed]
        bench.done(name, *command)
        require(digest(output) == digest(wanted), f"{output.name} differs from the undisturbed one")
        require(not hidden(place), f"left behind: {hidden(place)}")

    return case


def make_older(output: Path, wanted: Path) -> None:
    """An older output, which is to be replaced."""
    if wanted.is_dir():
        shutil.copytree(wanted, output)
        (output / "older.txt").write_text("as it was before")
    else:
        output.write_bytes(wanted.read_bytes() + b"as it was before")


def evaluate(bench: Bench, row: Row, kills: int, dice: random.Random, seconds: float) -> None:
    """Chains of killed and resumed evaluations: no reply is asked for twice but those in flight."""
    output = bench.folder / "eval.json"
    journal = output.with_suffix(".replies.jsonl")
    with fake_server.running() as server:
        server.answer = lambda n, question: time.sleep(0.1) or soak_bench.steady_answer(n, question)
        command = [*bench.asking(server.url, output), "--resume"]
        while True:
            before, chain = len(server.requests), 0
            while row.kills < kills:
                process = bench.start("evaluate_temporal", *command)
                killed = kill_somewhere(process, dice, seconds + 1, journal.exists)
                row.done += 1
                row.kills += killed
                chain += killed
                if not killed:
                    break
                lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
                row.left.append(f"{max(0, lines - 1) // 4 * 4}+ replies")
            bench.done("evaluate_temporal", *command)
            bench.require_same_results(output)
            most = soak_bench.EXAMPLES + 2 * chain
            require(len(server.requests) - before <= most, "replies that were saved were asked for again")
            output.unlink()
            if row.kills >= kills:
                return


KILLED = {
    "train": train,
    "merge": outputs("merge_lora", "merged"),
    "convert": outputs("convert_to_gguf", "model.gguf"),
    "evaluate": evaluate,
}
SCRIPTS = {
    "train": "finetune_temporal",
    "merge": "merge_lora",
    "convert": "convert_to_gguf",
    "evaluate": "evaluate_temporal",
}


def show(rows: Sequence[Row], kills: int) -> None:
    """Print the table."""
    print(f"\n{'case':<28}{'times':>6}{'kills':>6}{'s':>6}  verdict, and what was left or said")
    for row in rows:
        verdict = f"LOST: {'; '.join(row.losses)}" if row.losses else "ok"
        print(f"{row.case:<28}{row.done:>6}{row.kills:>6}{row.seconds:>6.0f}  {verdict}")
        for text in dict.fromkeys(row.left):
            print(f"{row.left.count(text):>6} x {text}")
    losses = sum(len(row.losses) for row in rows)
    print(f"\n{sum(row.kills for row in rows)} kills of {kills}, {losses} losses")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases and print the table."""
    names = [*KILLED, *soak_faults.FAULTS]
    parser = cli.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="kill -9 in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of: {', '.join(names)}")
    parser.add_argument("--base", type=cli.path, metavar="DIR", help="a real base (default: a tiny model)")
    args = parser.parse_args(argv)
    chosen = args.only or names
    rows = []
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        bench = Bench(Path(folder), args.base)
        seconds = bench.make_references()
        share = sum(SHARES[name] for name in chosen if name in SHARES) or 1
        for name in chosen:
            rows.append(row := Row(name))
            started = time.monotonic()
            cli.progress(f"{name} …")
            try:
                if name in KILLED:
                    kills = round(args.kills * SHARES[name] / share)
                    dice = random.Random(f"{args.seed} {name}")
                    KILLED[name](bench, row, kills, dice, seconds[SCRIPTS[name]])
                else:
                    row.done += 1
                    soak_faults.FAULTS[name](bench, row)
            except Exception as error:  # the other cases are still worth running
                row.losses.append(str(error) if isinstance(error, Loss) else repr(error))
                cli.progress(f"LOST: {row.losses[-1]}")
            bench.end_all()
            row.seconds = time.monotonic() - started
    show(rows, args.kills)
    return int(any(row.losses for row in rows))


if __name__ == "__main__":
    sys.exit(cli.run(main))
