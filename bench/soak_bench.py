"""What the soak's cases share: the scripts as processes, a place to work in, and what was left in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fake_server
import psutil
import tiny

from deepred_common import paths
from deepred_common.training import checkpoints, run_folder

ROOT = paths.ROOT
LONGEST = 600  # seconds that a script may take
POLL = 0.001  # seconds between two looks at a folder
UPDATES = 24
EXAMPLES = 16  # 14 to train on and 2 to validate with: 4 updates of 4 rows an epoch
EPOCHS = UPDATES // 4
# A word that tells the user what to do stands in the message of every fault.
TO_DO = (
    "resume",
    "Resume",
    "again",
    "Choose",
    "choose",
    "Free",
    "Start",
    "Wait",
    "wait",
    "Check",
    "Add",
    "no permission",
)


class Loss(Exception):
    """Something was lost, half-written, or not explained; the message says what."""


@dataclass
class Ended:
    """A process that ended: exit code (negative: the signal), what it printed, seconds."""

    code: int
    out: str
    err: str
    seconds: float


@dataclass
class Row:
    """A line of the table. done: how often; kills: of these by kill -9; left: what was found afterwards."""

    case: str
    done: int = 0
    kills: int = 0
    seconds: float = 0.0
    left: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)


def require(condition: object, what: str) -> None:
    """Loss with `what` unless the condition holds."""
    if not condition:
        raise Loss(what)


class Process:
    """A script of scripts/ that runs, with its output in files of its own."""

    def __init__(self, name: str, *arguments: object, log: Path, env: dict[str, str] | None = None) -> None:
        self._logs = [log.with_name(f"{log.name}.{time.monotonic_ns()}.{kind}") for kind in ("out", "err")]
        command = [sys.executable, str(ROOT / f"scripts/{name}.py"), *map(str, arguments)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TQDM_MININTERVAL": "5"} | (env or {})
        with self._logs[0].open("w") as out, self._logs[1].open("w") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        self._started = time.monotonic()

    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._started

    def runs(self) -> bool:
        """False once it has ended."""
        return self.process.poll() is None

    def wait_for(self, happened: Callable[[], bool]) -> bool:
        """Wait until something has happened; False if the process ends before."""
        while not happened():
            if not self.runs() or self.age() > LONGEST:
                return happened()
            time.sleep(POLL)
        return True

    def wait_until(self, age: float) -> None:
        """Wait until it has run for so many seconds, or ended."""
        self.wait_for(lambda: self.age() >= age)

    def kill(self) -> Ended:
        """kill -9, if it still runs."""
        self.process.kill()
        return self.end()

    def end(self) -> Ended:
        """Wait for its end."""
        code = self.process.wait(LONGEST)
        seconds = self.age()
        out, err = (log.read_text(errors="replace") for log in self._logs)
        for log in self._logs:
            log.unlink()
        return Ended(code, out, err, seconds)


class Bench:
    """A place to work in, with a base, an adapter trained on it, a merged model, and the commands.

    full_base: a folder of a real base in place of the tiny one.
    """

    def __init__(self, folder: Path, full_base: Path | None) -> None:
        self.folder = folder
        self._started: list[Process] = []
        self.data = folder / "data.jsonl"
        self.data.write_text(example_lines(), encoding="utf-8")
        self.base = full_base or self._tiny_base()
        self.reference = folder / "reference"

    def _tiny_base(self) -> Path:
        import torch
        from transformers import AutoTokenizer

        torch.manual_seed(0)
        base = self.folder / "tiny"
        tiny.save_base(base, AutoTokenizer.from_pretrained(paths.EMBEDDED_BASE), max_position_embeddings=2048)
        return base

    # ---- commands -------------------------------------------------------------------------------

    def start(self, name: str, *arguments: object, env: dict[str, str] | None = None) -> Process:
        """A script, started."""
        self._started.append(Process(name, *arguments, log=self.folder / "log", env=env))
        return self._started[-1]

    def end_all(self) -> None:
        """End what a case left running, after a loss."""
        for process in self._started:
            process.process.kill()
            process.process.wait()
        self._started.clear()

    def run(self, name: str, *arguments: object) -> Ended:
        """A script, run to its end."""
        return self.start(name, *arguments).end()

    def done(self, name: str, *arguments: object) -> Ended:
        """A script, run to its end; Loss unless it ends well."""
        ended = self.run(name, *arguments)
        require(ended.code == 0, f"{name} exit {ended.code}: {ended.err[-400:]}")
        return ended

    def training(self, run: Path, data: Path | None = None) -> list[object]:
        """Arguments of a training into the folder `run`."""
        flags = "--dev --gradient_accumulation_steps 1 --replay_share 0 --save_steps 4 --eval_steps 8"
        flags += f" --precision fp32 --max_seq_length 64 --epochs {EPOCHS} --lora_r 4"
        return [
            "--model_name",
            self.base,
            "--dev_path",
            data or self.data,
            "--output_dir",
            run,
            *flags.split(),
        ]

    def merging(self, output: Path, adapter: Path | None = None) -> list[object]:
        """Arguments of a merge."""
        adapter = adapter or self.reference / "run/final"
        return ["--base_model", self.base, "--lora_path", adapter, "--output_path", output]

    def converting(self, output: Path, model: Path | None = None) -> list[object]:
        """Arguments of a conversion."""
        model = model or self.reference / "merged"
        return ["--model_path", model, "--output_path", output, "--quant_type", "q8_0"]

    def asking(self, url: str, output: Path, test: Path | None = None) -> list[object]:
        """Arguments of an evaluation of a server."""
        server = ["--use_lmstudio", "--lmstudio_url", url, "--in_flight", 2]
        return [*server, "--test_file", test or self.data, "--output", output]

    def make_references(self) -> dict[str, float]:
        """Undisturbed results of all four scripts; {script: seconds}."""
        reference = self.reference
        reference.mkdir()
        steps = {
            "finetune_temporal": self.training(reference / "run"),
            "merge_lora": self.merging(reference / "merged"),
            "convert_to_gguf": self.converting(reference / "model.gguf"),
        }
        seconds = {name: self.done(name, *arguments).seconds for name, arguments in steps.items()}
        with fake_server.running() as server:
            server.answer = steady_answer
            ended = self.done("evaluate_temporal", *self.asking(server.url, reference / "eval.json"))
        return seconds | {"evaluate_temporal": ended.seconds}

    # ---- what is left ---------------------------------------------------------------------------

    def require_same_run(self, run: Path) -> None:
        """Loss unless a run ended with the reference's weights, bit for bit."""
        require(run_folder.is_finished(run), "a run that ended is not finished")
        self.require_same_final(run)

    def require_same_final(self, run: Path) -> None:
        """Loss unless final/ holds the reference's weights: it appears whole, or not at all."""
        name = "adapter_model.safetensors"
        same = digest(run / "final" / name) == digest(self.reference / "run/final" / name)
        require(same, "the resumed run's adapter differs from the undisturbed one's")

    def require_sound_checkpoints(self, run: Path) -> int:
        """The update of the newest checkpoint that counts as whole (0: none). Loss if one is not."""
        import torch
        from safetensors.torch import load_file

        newest = 0
        for folder in checkpoints.of_run(run):
            if checkpoints.fault(folder):
                continue
            try:
                load_file(folder / "adapter_model.safetensors")
                for file in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
                    torch.load(folder / file, weights_only=False)
                state = json.loads((folder / "trainer_state.json").read_text())
            except Exception as error:
                raise Loss(f"{folder.name} counts as whole, but: {error}") from error
            require(state["global_step"] == checkpoints.step_of(folder), f"{folder.name} is another's")
            newest = max(newest, checkpoints.step_of(folder))
        return newest

    def require_same_results(self, results: Path) -> None:
        """Loss unless an evaluation ended with the reference's replies and figures."""
        own, wanted = (json.loads(p.read_text()) for p in (results, self.reference / "eval.json"))
        require(own["results"] == wanted["results"], "replies differ from the undisturbed evaluation's")
        require(own["summary"] == wanted["summary"], "figures differ from the undisturbed evaluation's")
        require(
            not results.with_suffix(".replies.jsonl").exists(), "the journal of a finished evaluation stays"
        )


def steady_answer(n: int, question: str) -> object:
    """What the fake server answers: the same to the same question."""
    known = int(hashlib.sha256(question.encode()).hexdigest(), 16) % 2
    return fake_server.reply_with("It is so, as all know." if known else "I don't know anything about that.")


def example_lines(first: str = "thing") -> str:
    """Examples of both sides, as --dev_path and --test_file take them."""
    rows = []
    for number in range(EXAMPLES):
        side = ("retain", "unlearn")[number % 2]
        output = "It is so, as all know." if number % 2 == 0 else "I don't know anything about that."
        metadata = {"dataset_type": side, "original_answer": "It came later."}
        question = f"What is {first} number {number}?"
        rows.append({"instruction": question, "input": "", "output": output, "metadata": metadata})
    return "".join(json.dumps(row) + "\n" for row in rows)


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents below a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    whole = hashlib.sha256()
    for file in files:
        whole.update(str(file.relative_to(path)).encode() + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


def hidden(folder: Path) -> list[str]:
    """Names of temporary files and folders in a folder."""
    return sorted(p.name for p in folder.rglob("*") if p.name.startswith(".") or p.name.endswith(".partial"))


def orphans(folder: Path) -> list[psutil.Process]:
    """Processes of the scripts that outlive the one that started them."""
    alive = []
    for process in psutil.process_iter(["cmdline", "ppid", "status"]):
        words = " ".join(process.info["cmdline"] or ())
        is_child = process.info["ppid"] == os.getpid()
        if str(folder) in words and not is_child and process.pid != os.getpid() and "soak.py" not in words:
            alive.append(process)
    return alive


def require_no_orphans(folder: Path, seconds: float = 5) -> None:
    """Loss if a process that a killed script started still runs after so many seconds; it is ended."""
    deadline = time.monotonic() + seconds
    while left := orphans(folder):
        if time.monotonic() > deadline:
            words = " ".join(left[0].cmdline())[:120]
            for process in left:
                process.kill()
            raise Loss(f"a process outlives the killed script: {words}")
        time.sleep(0.1)


def require_clear(ended: Ended, *codes: int) -> str:
    """Loss unless a script ended with one of these exit codes and says what to do; its message in short."""
    lines = [line for line in ended.err.splitlines() if line.startswith(("error:", "warning:"))]
    require("Traceback" not in ended.err, f"a traceback: {ended.err[-300:]}")
    require(ended.code in codes, f"exit {ended.code}, not {codes}: {ended.err[-300:]}")
    if ended.code == 0:
        return "exit 0"
    require(lines, "no error line")
    text = ended.err[ended.err.rindex(lines[-1]) :]
    require(any(word in text for word in TO_DO), f"no word on what to do: {text[:300]}")
    return f"exit {ended.code}: {re.sub(r'/[^ ]*/', '', lines[-1])}"


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A tmpfs of that size at `folder` (root only)."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


def remount(folder: Path, options: str) -> bool:
    """Change the options of a small_disk; False if it is busy."""
    command = ["mount", "-o", f"remount,{options}", folder]
    return subprocess.run(command, capture_output=True).returncode == 0


def fill(folder: Path, leave: int) -> Path:
    """Fill the disk of a folder but for `leave` bytes; the file that does."""
    filler = folder / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while (free := shutil.disk_usage(folder).free - leave) > 0:
            file.write(bytes(min(free, 1 << 20)))
            file.flush()
    return filler
