"""Running one of llama.cpp's tools: its output goes to a log, and a progress bar is read out of it."""

from __future__ import annotations

import os
import re
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from deepred_common.cli import UserError
from deepred_common.foreign_text import ESCAPED

KEPT_LINES = 200  # of the output, to find the reason of a failure in
LONGEST_REASON = 300  # characters
# " 37%|███" of the converter's bar; "[ 12/ 272]" of the quantiser and of ninja.
PERCENT = re.compile(r"(\d{1,3})%\|?|\[ *(\d+)/ *(\d+)\]")
CHUNKS = re.compile(r"over (\d+) chunks")  # llama-imatrix: "computing over 4 chunks", then "[1]3.2,[2]2.9,"
CHUNK = re.compile(r"\[(\d+)\][-\d.,n]")
FAILURE = re.compile(r"error|exception|not supported|failed|unable|cannot|no space", re.IGNORECASE)
REPOSITORY = "https://github.com/ggml-org/llama.cpp.git"
# `git pull` would fail in the tree that llama_cpp.fetch_tree makes: it has no remote, or no .git at all.
GET_NEWER = (
    f"Get a newer one (git clone --depth 1 {REPOSITORY} llama.cpp-new) and pass "
    "--llama_cpp_path llama.cpp-new."
)
# llama.cpp's words for what users run into, and what to do about it.
ADVICE = (
    (
        "pre-tokenizer was not recognized",
        "This llama.cpp does not know how the model's tokenizer splits text. Use the base's own tokenizer "
        f"files unchanged, or another llama.cpp. {GET_NEWER}",
    ),
    (
        "can not map tensor",
        f"The model holds a tensor that this llama.cpp does not know. {GET_NEWER}",
    ),
    (
        "tokenizer.model",
        "The tokenizer's files are not complete, or not of a kind that llama.cpp reads: merge again, or copy "
        "the base's.",
    ),
    ("no space left", "The disk is full; an f16 file takes 2 bytes a weight while it is quantised."),
)


class _Percentage:
    """How far a tool is, in percent, from the lines that it prints."""

    def __init__(self) -> None:
        self.value = 0
        self.chunks = 0

    def read(self, line: str) -> int:
        if match := CHUNKS.search(line):
            self.chunks = int(match[1])
        elif self.chunks and (numbers := CHUNK.findall(line)):
            self.value = 100 * int(numbers[-1]) // self.chunks
        elif match := PERCENT.search(line):
            percent, step, steps = match.groups()
            share = int(percent) if percent else 100 * int(step) // max(1, int(steps))
            self.value = max(self.value, min(share, 100))
        return self.value


def run_logged(
    command: Sequence[str], log: str | Path, title: str, environment: Mapping[str, str] | None = None
) -> None:
    """Run `command` with its output appended to the file `log`, and show one progress bar.

    UserError with the reason out of the output and the log's path if it fails. It is stopped if this process
    is interrupted.
    """
    from tqdm import tqdm

    lines: deque[str] = deque(maxlen=KEPT_LINES)
    percentage = _Percentage()
    with (
        open(log, "a", encoding="utf-8", errors=ESCAPED) as file,
        tqdm(total=100, desc=title, bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}") as bar,
    ):
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        try:
            # Text mode splits at \r too, so that each state of a tool's own bar arrives as a line.
            for line in process.stdout or ():
                file.write(line)
                lines.append(line.strip())
                bar.update(percentage.read(line) - bar.n)
            code = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if code == 0:
            bar.update(100 - bar.n)
    if code:
        reason = _reason(lines) or f"exit code {code}"
        advice = next((f"{advice}\n" for words, advice in ADVICE if words in reason.lower()), "")
        raise UserError(f"{title} failed: {reason[:LONGEST_REASON]}\n{advice}The whole output is in {log}")


def _reason(lines: Sequence[str]) -> str:
    """The last line that speaks of a failure, else the last line, else ""."""
    written = [line for line in lines if line]
    failures = [line for line in written if FAILURE.search(line)]
    return (failures or written or [""])[-1]
