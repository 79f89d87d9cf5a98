"""How long --check takes and what it holds: shipped training lines, each with a number of its own, until there are enough.

python bench/check.py --lines 150000
"""

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import paths
from deepred_common.data import checks
from deepred_common.examples import SIDES, read_objects


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=150_000)
    count = parser.parse_args().lines
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for side in SIDES:
            rows = [
                row for _, row in read_objects(paths.ROOT / "datasets" / paths.DATASET_FILES[f"{side}_train"])
            ]
            files.append(Path(folder) / f"{side}_train.jsonl")
            with files[-1].open("w", encoding="utf-8") as out:
                for number in range(count // 2):
                    row = rows[number % len(rows)]
                    made = {
                        **row,
                        "instruction": f"{row['instruction']} Number {number}",
                        "metadata": {"dataset_type": side},
                    }
                    out.write(json.dumps(made, ensure_ascii=False) + "\n")
        started = time.perf_counter()
        found = checks.check(files, "1969-07-20")
        seconds = time.perf_counter() - started
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1000
    print(
        f"{found.counts.total()} lines checked in {seconds:.1f} s, {peak:.0f} MB at most; {found.count} findings"
    )


if __name__ == "__main__":
    main()
