"""How long the checks of data take, and the memory: shipped training examples, each with a number of its own.

First `build_datasets.py --check` of files, then the check before training of the same examples.

    python bench/check.py --lines 150000
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import cli, paths
from deepred_common.data import checks
from deepred_common.dates import DEFAULT_CUTOFF
from deepred_common.examples import SIDES, read_examples
from deepred_common.json_lines import read_objects


def write_file(path: Path, side: str, count: int) -> None:
    """Write `count` examples of a side: the shipped ones over and over, each with its own number."""
    shipped = paths.ROOT / "datasets" / paths.DATASET_FILES[f"{side}_train"]
    rows = [row for _, row in read_objects(shipped) if "instruction" in row]  # the others are conversations
    with path.open("w", encoding="utf-8") as out:
        for number in range(count):
            row = rows[number % len(rows)]
            numbered = {
                **row,
                "instruction": f"{row['instruction']} Number {number}",
                "metadata": {"dataset_type": side},
            }
            out.write(json.dumps(numbered, ensure_ascii=False) + "\n")


def peak_memory() -> int:
    """MB that this process has used at most."""
    match = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(match[1]) // 1000 if match else 0


def main() -> None:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=150_000)
    count = parser.parse_args().lines
    with tempfile.TemporaryDirectory() as folder:
        files = {side: Path(folder) / f"{side}_train.jsonl" for side in SIDES}
        for side, path in files.items():
            write_file(path, side, count // len(SIDES))
        started = time.perf_counter()
        report = checks.check(list(files.values()), DEFAULT_CUTOFF)
        seconds = time.perf_counter() - started
        print(
            f"--check: {sum(report.counts.values())} examples in {seconds:.1f} s, {peak_memory()} MB at most"
            f"; {report.findings.count} findings"
        )
        del report
        training = [example for side, path in files.items() for example in read_examples(path, side)]
        validation = [
            example
            for side in SIDES
            for example in read_examples(paths.ROOT / "datasets" / paths.DATASET_FILES[f"{side}_val"], side)
        ]
    started = time.perf_counter()
    summary = checks.summary(training, validation)
    seconds = time.perf_counter() - started
    print(
        f"before training: {len(training)} examples in {seconds:.1f} s; {len(summary['warnings'])} warnings"
    )


if __name__ == "__main__":
    main()
