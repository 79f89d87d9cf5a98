#!/usr/bin/env python3
"""Build training, validation, dev and test data for any cutoff from dated facts and things, or check yours.

Reads facts/, things/, present/ and refusals.jsonl in datasets/. Writes retain/, unlearn/, present/, dev/ and
test/ below --output_dir. With --check it reads the files given instead, and prints what is wrong with them,
with file and line.

    python scripts/build_datasets.py --cutoff 1989-11-09
    python scripts/build_datasets.py --check my/retain_train.jsonl my/unlearn_train.jsonl --fix my/cleaned
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import cli, paths
from deepred_common.cli import UserError
from deepred_common.data import builder, checks, facts, present, questions, split, thing_lines, things
from deepred_common.data.data_lines import Line
from deepred_common.dates import DEFAULT_CUTOFF
from deepred_common.examples import RETAIN, SIDES, UNLEARN
from deepred_common.files import require_absent, require_writable_parent, write_text
from deepred_common.foreign_text import printable

# Validation examples of a side, below which its figures say next to nothing: at 20 the 95 % interval of a
# share of one half is 44 points wide.
FEWEST_VALIDATION = 20
EXIT_FINDINGS = 1  # --check found something


def build_parser() -> cli.Parser:
    parser = cli.Parser(
        description="Build data for a cutoff from dated facts and things, or check your own data."
    )
    add = parser.add_argument
    add(
        "--cutoff",
        type=cli.day,
        default=DEFAULT_CUTOFF,
        metavar="YYYY-MM-DD",
        help="the first day that the model no longer knows (default: %(default)s)",
    )
    add("--output_dir", type=cli.path, help="folder to write to (default: output/datasets-<cutoff>)")
    add(
        "--ratio",
        type=cli.ratio,
        default=(1.0, 1.0),
        metavar="R:U",
        help="ratio of retain to unlearn examples (default: as many of each)",
    )
    add(
        "--dev_lines",
        type=cli.positive_int,
        default=500,
        help="size of the dev subset, which is taken from the training examples (default: %(default)s)",
    )
    add(
        "--seed",
        type=cli.seed,
        default=split.SHIPPED_SEED,
        help="seed of every random choice (default: %(default)s)",
    )
    add("--overwrite", action="store_true", help="replace files that exist")
    add(
        "--check",
        type=cli.path,
        nargs="+",
        metavar="FILE",
        help="check these files instead; those with val, test or eval in their name count as held out, all "
        "others (dev, too) as trained on",
    )
    add(
        "--fix",
        type=cli.path,
        metavar="DIR",
        help="with --check: write copies without the faulty examples to this folder",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args, given = cli.parse(build_parser(), argv)
    if args.fix and not args.check:
        raise UserError("--fix needs --check: name the files to clean after --check.")
    if args.check:
        return check(args.check, args.cutoff, args.fix, args.overwrite)

    folder = args.output_dir or paths.OUTPUT / f"datasets-{args.cutoff}"
    cli.print_settings("Build settings", args, given, resolved=_resolved(args, folder))
    settings = builder.BuildSettings(args.cutoff, args.ratio, args.dev_lines, args.seed)
    bank = facts.read_bank()
    table = thing_lines.Table(things.read_things(), things.read_forms())
    files = builder.build(bank, settings, facts.read_misleading(), table, present.read_questions())
    write(folder, files, args.overwrite)

    print_counts(bank, len(table.things), files, args.cutoff)
    warn_if_few(files, args.cutoff)
    print_forms(files)
    print_next(folder, args.cutoff)
    return cli.EXIT_OK


def _resolved(args: argparse.Namespace, folder: Path) -> dict[str, tuple[object, str]]:
    """What the settings' table shows as worked out here."""
    return {} if args.output_dir else {"output_dir": (folder, "from the cutoff")}


# ---- building --------------------------------------------------------------------------------------------


def write(folder: Path, files: builder.Files, overwrite: bool) -> None:
    """Write {file name: lines} below `folder`; nothing if one exists that must not be replaced."""
    for name in files:
        require_absent(folder / name, overwrite)
    for name, lines in files.items():
        require_writable_parent(folder / name)
        write_text(folder / name, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def print_counts(bank: Sequence[facts.Fact], things_count: int, files: builder.Files, cutoff: str) -> None:
    """How many facts and things there are, and how many examples of each side each file has."""
    undated = sum(facts.side(fact, cutoff) is None for fact in bank)
    left_out = f"; left out, since their date does not tell the side: {undated}" if undated else ""
    print(f"Bank: {len(bank)} facts; cutoff {cutoff}{left_out}")
    print(f"Table: {things_count} dated things")
    for name, lines in files.items():
        counts = Counter(line["metadata"]["dataset_type"] for line in lines)
        print(f"  {name:<28}{counts[RETAIN]:>6} retain {counts[UNLEARN]:>6} unlearn")


def warn_if_few(files: builder.Files, cutoff: str) -> None:
    """Warn if a side has too few validation examples to judge a model by."""
    fewest = min(len(files[builder.validation_file(side)]) for side in SIDES)
    if fewest < FEWEST_VALIDATION:
        cli.warn(
            f"the validation examples of a side are too few to judge a model by ({fewest}): the bank has few "
            f"facts on one side of {cutoff}.\nAdd facts to datasets/facts/, or choose another cutoff."
        )


def print_forms(files: builder.Files) -> None:
    """The forms of the training questions, and how far a question's first words give its side away."""
    training = {side: _questions(files[builder.training_file(side)]) for side in SIDES}
    validation = {side: _questions(files[builder.validation_file(side)]) for side in SIDES}
    for side in SIDES:
        forms = Counter(questions.question_form(question) for question, _ in training[side])
        shares = [f"{form} {100 * count / forms.total():.0f}%" for form, count in forms.most_common()]
        print(f"Forms, {side:<8} {', '.join(shares)}")
    accuracy = questions.first_words_accuracy(
        training[RETAIN] + training[UNLEARN], validation[RETAIN] + validation[UNLEARN]
    )
    if accuracy is not None:
        print(
            "The side of a validation question is guessed from its first three words in "
            f"{100 * accuracy:.0f}% of cases (50 is chance)."
        )


def _questions(lines: Sequence[Line]) -> list[tuple[str, str]]:
    """[(question, side)] of lines."""
    asked = []
    for line in lines:
        metadata = line["metadata"]
        asked.append((metadata.get("question") or str(line.get("instruction")), metadata["dataset_type"]))
    return asked


def print_next(folder: Path, cutoff: str) -> None:
    """The commands that train on the files written, merge, and evaluate."""
    flags = " \\\n".join(
        f"      --{name} {paths.quoted(folder / file)}"
        for name, file in paths.DATASET_FILES.items()
        if name != "dev_path"
    )
    run = f"output/temporal-{cutoff}"
    validation = " ".join(paths.quoted(folder / builder.validation_file(side)) for side in SIDES)
    print(
        f"\nNext:\n  {paths.script('finetune_temporal')} --output_dir {run} \\\n{flags}\n"
        f"  {paths.script('merge_lora')} --base_model {paths.DEFAULT_MODEL} \\\n"
        f"      --lora_path {run}/final --output_path output/merged --verify\n"
        f"  {paths.script('evaluate_temporal')} --cutoff {cutoff} --model_path output/merged \\\n"
        f"      --test_file {validation}\n"
        f"and, as the harder measure, the same with --test_file {paths.quoted(folder / builder.TEST_FILE)}"
    )


# ---- checking --------------------------------------------------------------------------------------------


def check(files: Sequence[Path], cutoff: str, fixed: Path | None, overwrite: bool) -> int:
    """Print every finding; write cleaned copies to the folder `fixed`, if given. Returns the exit code."""
    if fixed:
        require_copies_can_be_written(files, fixed, overwrite)
    report = checks.check(files, cutoff)
    for text in report.texts():
        print(printable(text))
    if fixed:
        for copy, kept, left_out in checks.fix(report, fixed):
            print(printable(f"{paths.shown(copy)}: lines kept {kept}, lines left out {left_out}"))
    return EXIT_FINDINGS if report.findings.count else cli.EXIT_OK


def require_copies_can_be_written(files: Sequence[Path], folder: Path, overwrite: bool) -> None:
    """UserError unless each checked file can have a copy in `folder` that replaces no checked file."""
    # A file given twice is copied once, under its first name.
    names = {path.resolve(): path.name for path in reversed(files)}
    times = Counter(names.values())
    for path in files:
        copy = folder / path.name
        if copy.resolve() in names:
            raise UserError(f"--fix {folder} is where a checked file lies; choose another folder.")
        if times[path.name] > 1:
            raise UserError(
                f"two of the checked files are named {path.name}, and --fix writes all copies to one folder; "
                "check them one after the other."
            )
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a regular file; --fix must read it twice.")
        if copy.is_dir():
            raise UserError(f"{copy} is a folder, but --fix would write a copy with this name.")
        require_absent(copy, overwrite)
        require_writable_parent(copy)


if __name__ == "__main__":
    sys.exit(cli.run(main))
