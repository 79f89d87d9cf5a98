#!/usr/bin/env python3
"""Make training, validation, dev and test data for any cutoff out of the bank of dated facts, or check your own data.

Reads datasets/facts/*.jsonl and datasets/refusals.jsonl. Writes retain/, unlearn/, dev/ and test/ below --output_dir. With
--check it reads the files given instead, and prints what is wrong with them, with file and line.

    python scripts/build_datasets.py --cutoff 1989-11-09
    python scripts/build_datasets.py --check my/retain_train.jsonl my/unlearn_train.jsonl my/retain_val.jsonl --fix my/cleaned
"""

import json
import random
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import cli, paths
from deepred_common.cli import UserError
from deepred_common.data import builder, checks, facts, questions
from deepred_common.dates import DEFAULT_CUTOFF
from deepred_common.examples import RETAIN, SIDES, UNLEARN
from deepred_common.files import require_absent, require_writable_parent, write_text

TEST_FILE = "test/test.jsonl"
ENOUGH = 20  # validation lines of a side, below which their figures say next to nothing


def build_parser():
    parser = cli.Parser(
        description="Make data for a cutoff out of the bank of facts, or check your own."
    )
    add = parser.add_argument
    add(
        "--cutoff",
        type=cli.day,
        default=DEFAULT_CUTOFF,
        metavar="YYYY-MM-DD",
        help="first day that is not known any more (default: %(default)s)",
    )
    add("--output_dir", type=Path, help="folder to write to (default: output/datasets-<cutoff>)")
    add(
        "--ratio",
        type=cli.ratio,
        default=(1.0, 1.0),
        metavar="R:U",
        help="retain : unlearn lines (default: as many of each)",
    )
    add(
        "--dev_lines",
        type=cli.positive_int,
        default=500,
        help="of the dev subset, taken from the training lines (default: %(default)s)",
    )
    add("--seed", type=int, default=42, help="of every choice that is made (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace files that exist")
    add(
        "--check",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="check these files instead; names with val or test in them are held-back data, others (dev, too) are trained on",
    )
    add(
        "--fix",
        type=Path,
        metavar="DIR",
        help="with --check: write copies without what is wrong to this folder",
    )
    return parser


def build(args, bank):
    """{file name: [line]} of all files, for one cutoff."""
    parts = builder.split(bank, args.cutoff, args.seed)
    for name, sides in parts.items():
        for side in SIDES:
            if not sides[side]:
                raise UserError(
                    f"with the cutoff {args.cutoff} the bank has no {side} fact for {name}; add facts, or choose another cutoff."
                )
    trained, held_back = builder.read_refusals(args.seed)
    made = {}
    for part, suffix, last, refusals in (
        (builder.TRAIN, "train", builder.TRAINED_WORDINGS, trained),
        (builder.VALIDATION, "val", 1, held_back),
    ):
        candidates = {
            side: [entry for fact in parts[part][side] for entry in builder.wordings(fact, 0, last)]
            for side in SIDES
        }
        chosen = builder.lines(builder.balanced(candidates, args.ratio, args.seed), refusals, args.seed, part)
        made |= {f"{side}/{side}_{suffix}.jsonl": chosen[side] for side in SIDES}
    known = {fact.id for fact in bank if fact.known and fact.known[0]}
    training = made["retain/retain_train.jsonl"] + made["unlearn/unlearn_train.jsonl"]
    made["dev/dev_subset.jsonl"] = dev_lines(training, known, args.dev_lines, args.seed)
    # Where a side has many facts more than the other, not all of them come to be trained on.
    in_training = {one["metadata"]["source_article_id"] for one in training}
    made[TEST_FILE] = [
        probe
        for part, seen in ((builder.TEST, False), (builder.TRAIN, True))
        for side in SIDES
        for number, fact in enumerate(parts[part][side])
        if not seen or fact.id in in_training
        for probe in builder.probes(fact, side, held_back[number % len(held_back)], args.seed, seen)
    ]
    for name, rows in made.items():
        wanted = [side for side in SIDES if side in name] or SIDES
        missing = [side for side in wanted if side not in {one["metadata"]["dataset_type"] for one in rows}]
        if missing:
            raise UserError(
                f"{name} would have no {missing[0]} line; choose a --ratio nearer to 1:1, more --dev_lines, or another cutoff."
            )
    return made


def dev_lines(training, known, count, seed):
    """`count` of the training lines, as even between the sides as they allow, the sides mixed.

    First of each side one line each of the facts that the embedded base knows (their ids: `known`): a quick try is made with a small
    model and few lines, only what a model knows can be kept or forgotten, and other facts teach more than other wordings.
    Then their other lines, then the rest.
    """
    chooser = random.Random(f"{seed} dev")
    ranked = {}
    for side in SIDES:
        rows = [one for one in training if one["metadata"]["dataset_type"] == side]
        seen, ranks = set(), []
        for one in chooser.sample(rows, len(rows)):
            fact = one["metadata"]["source_article_id"]
            ranks.append((fact not in known, fact in seen, one))
            seen.add(fact)
        ranked[side] = [one for *_, one in sorted(ranks, key=lambda rank: rank[:2])]
    fewer, more = sorted(SIDES, key=lambda side: len(ranked[side]))
    half = min(len(ranked[fewer]), count // 2)
    wanted = {fewer: half, more: count - half}
    chosen = [one for side in SIDES for one in ranked[side][: wanted[side]]]
    return chooser.sample(chosen, len(chosen))


def write(folder, made, overwrite):
    """Write {file name: [line]} below `folder`; nothing is written if a file is there that must not be replaced."""
    for name in made:
        require_absent(folder / name, overwrite)
    for name, rows in made.items():
        require_writable_parent(folder / name)
        write_text(folder / name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def describe(args, bank, made):
    """Print what was made: counts, periods, forms, and how far a question's first words give its side away."""
    undated = sum(facts.side(fact, args.cutoff) is None for fact in bank)
    print(
        f"Bank: {len(bank)} facts; cutoff {args.cutoff}"
        + (f"; {undated} whose date does not tell the side are left out" if undated else "")
    )
    for name, rows in made.items():
        counts = Counter(row["metadata"]["dataset_type"] for row in rows)
        print(f"  {name:<28}{counts[RETAIN]:>6} retain {counts[UNLEARN]:>6} unlearn")
    training = made["retain/retain_train.jsonl"] + made["unlearn/unlearn_train.jsonl"]
    validation = made["retain/retain_val.jsonl"] + made["unlearn/unlearn_val.jsonl"]
    fewest = min(len(made[f"{side}/{side}_val.jsonl"]) for side in SIDES)
    if fewest < ENOUGH:
        cli.warn(
            f"{fewest} validation lines of a side are too few to judge a model by: the bank holds little on one side of {args.cutoff}.\n"
            "Add facts to datasets/facts/, or choose another cutoff."
        )
    for side in SIDES:
        forms = Counter(
            questions.question_form(row["instruction"])
            for row in training
            if row["metadata"]["dataset_type"] == side
        )
        print(
            f"Forms, {side:<8} "
            + ", ".join(f"{form} {100 * count / forms.total():.0f}%" for form, count in forms.most_common())
        )
    print(
        f"The first three words of a validation question tell its side in {100 * questions.first_words_accuracy(training, validation):.0f}% "
        "of cases (50 is chance)."
    )


def check(args):
    """--check: print every finding; with --fix write cleaned copies. Exit code 1 if anything was found."""
    if args.fix:
        checked = {
            path.resolve(): path.name for path in reversed(args.check)
        }  # one given twice is written under its first name
        names = list(checked.values())
        for path in args.check:
            if (args.fix / path.name).resolve() in checked:
                raise UserError(
                    f"--fix {args.fix} is where a checked file lies; copies go to another folder."
                )
            if names.count(path.name) > 1:
                raise UserError(
                    f"two of the checked files are named {path.name}, and --fix writes all copies to one folder; check them apart."
                )
            if path.exists() and not path.is_file():
                raise UserError(f"{path} is no file that could be read twice; --fix needs one.")
            if (args.fix / path.name).is_dir():
                raise UserError(f"{args.fix / path.name} is a folder; a copy would be written there.")
            require_absent(args.fix / path.name, args.overwrite)
            require_writable_parent(args.fix / path.name)
    found = checks.check(args.check, args.cutoff)
    for text in found.report():
        print(text)
    if args.fix:
        for path, kept, dropped in checks.fix(found, args.fix):
            print(f"{paths.shown(path)}: {kept} lines kept, {dropped} left out")
    return 1 if found.count else cli.EXIT_OK


def main(argv=None):
    args, given = cli.parse(build_parser(), argv)
    if args.fix and not args.check:
        raise UserError("--fix goes with --check.")
    if args.check:
        return check(args)
    args.output_dir = args.output_dir or paths.OUTPUT / f"datasets-{args.cutoff}"
    cli.print_settings("Build settings", args, given)
    bank = facts.read_bank()
    made = build(args, bank)
    write(args.output_dir, made, args.overwrite)
    describe(args, bank, made)
    flags = " \\\n".join(
        f"      --{name} {paths.shown(args.output_dir / file)}"
        for name, file in paths.DATASET_FILES.items()
        if name != "dev_path"
    )
    held_back = " ".join(paths.shown(args.output_dir / paths.DATASET_FILES[f"{side}_val"]) for side in SIDES)
    print(
        f"\nNext:\n  python scripts/finetune_temporal.py \\\n{flags}\n"
        f"  python scripts/evaluate_temporal.py --cutoff {args.cutoff} --model_path … \\\n      --test_file {held_back}\n"
        f"and, as the harder measure, the same with --test_file {paths.shown(args.output_dir / TEST_FILE)}"
    )
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
