"""The data files built of the bank for any cutoff, and the shipped ones."""

import dataclasses
import re
from collections import Counter, defaultdict

import pytest

from deepred_common import paths
from deepred_common.data import builder, data_lines, facts, questions
from deepred_common.examples import RETAIN, SIDES, UNLEARN, read_examples, read_objects
from deepred_common.judging import refusal

NAMES = [f"{folder}/{folder}_{part}.jsonl" for folder in SIDES for part in ("train", "val")] + [
    "dev/dev_subset.jsonl",
    "test/test.jsonl",
]


@pytest.fixture(scope="module")
def bank():
    return facts.read_bank()


@pytest.fixture
def build(script, tmp_path):
    """build(cutoff, …flags) -> ({file: [Example]}, what was printed, the folder)."""

    def make(cutoff, *flags, folder="made"):
        code, out, err = script(
            "build_datasets", "--cutoff", cutoff, "--output_dir", tmp_path / folder, *flags
        )
        assert code == 0, err
        return {name: read_examples(tmp_path / folder / name) for name in NAMES}, out, tmp_path / folder

    return make


def test_every_refusal_wording_is_detected_and_none_is_in_both_halves():
    trained, held_out = data_lines.read_refusals(42)
    assert len({*trained, *held_out}) == len(trained) + len(held_out) >= 60 and not {*trained} & {*held_out}
    assert len({row["tone"] for _, row in read_objects(data_lines.REFUSALS)}) == 4
    assert all(refusal.is_refusal(text) for text in trained + held_out)


@pytest.mark.parametrize("cutoff", ["1969-07-20", "1989-11-09", "1900-01-01"])
def test_the_files_are_disjoint_by_subject_and_balanced(build, bank, cutoff):
    made, out, _ = build(cutoff)
    by_id = {fact.id: fact for fact in bank}
    subjects = defaultdict(set)
    for name, examples in made.items():
        for example in examples:
            fact = by_id[example.metadata["source_article_id"]]
            assert facts.side(fact, cutoff) == example.side
            assert (example.output == fact.answer) == (example.side == RETAIN)
            if example.metadata.get("seen") == "trained":
                assert fact.id in {
                    e.metadata["source_article_id"]
                    for e in made[f"{example.side}/{example.side}_train.jsonl"]
                }
            else:
                part = "train" if "train" in name or "dev" in name else "val" if "val" in name else "test"
                subjects[part].add(fact.subject.casefold())
    assert (
        not subjects["train"] & (subjects["val"] | subjects["test"])
        and not subjects["val"] & subjects["test"]
    )
    for part in ("train", "val"):
        forms = [
            Counter(questions.question_form(e.instruction) for e in made[f"{side}/{side}_{part}.jsonl"])
            for side in SIDES
        ]
        assert forms[0] == forms[1] and forms[0].total() > (300 if part == "train" else 15)
    refusals = [{e.output for e in made[f"unlearn/unlearn_{part}.jsonl"]} for part in ("train", "val")]
    assert not refusals[0] & refusals[1]
    assert {e.metadata["probe"] for e in made["test/test.jsonl"]} == {
        "question",
        "phrasing",
        "cloze",
        "choice",
        "held-back phrasing",
    }
    trained = {e.instruction for e in made["retain/retain_train.jsonl"] + made["unlearn/unlearn_train.jsonl"]}
    assert trained & {e.instruction for e in made["test/test.jsonl"]} == set()
    assert "The side of a validation question is guessed from its first three words in" in out


@pytest.mark.parametrize("cutoff", ["1969-07-20", "1989-11-09"])
def test_no_training_example_names_a_held_out_subject(build, cutoff):
    made, _, _ = build(cutoff)
    held = {
        e.metadata["source_title"].split(" (")[0]
        for name in NAMES
        for e in made[name]
        if "val" in name or e.metadata.get("seen") == "held back"
    }
    names = re.compile("|".join(rf"\b{re.escape(name)}(?!\w)" for name in held if " " in name), re.IGNORECASE)
    for side in SIDES:
        for e in made[f"{side}/{side}_train.jsonl"]:
            assert not names.search(f"{e.instruction} {e.output} {e.metadata['source_title']}"), (
                e.instruction,
                e.metadata["source_title"],
            )
    # A subject that is a common noun ("paper") is not named wherever the word stands.
    words = set(re.findall(r"\w+", " ".join(e.output for e in made["retain/retain_train.jsonl"])))
    assert {name for name in held if name.islower()} & words


def test_the_same_seed_makes_the_same_bytes_and_another_one_others(build):
    folders = [
        build("1969-07-20", "--seed", seed, folder=folder)[2]
        for seed, folder in ((1, "a"), (1, "b"), (2, "c"))
    ]
    read = [{name: (folder / name).read_bytes() for name in NAMES} for folder in folders]
    assert read[0] == read[1] and all(read[0][name] != read[2][name] for name in NAMES)


def test_the_shipped_files_are_the_builds_for_the_default_cutoff_byte_for_byte(script, tmp_path):
    code, _, err = script("build_datasets", "--output_dir", tmp_path / "again")
    assert code == 0, err
    for name in NAMES:
        assert (tmp_path / "again" / name).read_bytes() == (paths.ROOT / "datasets" / name).read_bytes(), name


def test_nothing_is_wrong_with_the_shipped_files(script):
    code, out, _ = script("build_datasets", "--check", *(paths.ROOT / "datasets" / name for name in NAMES))
    assert code == 0 and "Nothing is wrong with them." in out, out


def test_the_dev_subset_is_of_what_the_base_knows(bank):
    known = {fact.id for fact in bank if fact.known[0]}
    dev = read_examples(paths.dataset_file("dev_path"))
    assert Counter(example.side for example in dev) == {RETAIN: 250, UNLEARN: 250}
    assert {example.metadata["source_article_id"] for example in dev} <= known


def test_the_ratio_and_what_is_not_overwritten(build, script, tmp_path):
    made, _, folder = build("1969-07-20", "--ratio", "2:1")
    counts = [len(made[f"{side}/{side}_train.jsonl"]) for side in SIDES]
    assert counts[0] == pytest.approx(2 * counts[1], rel=0.05)
    code, _, err = script("build_datasets", "--output_dir", folder)
    assert code == 2 and "already exists" in err
    for flags, message in (
        (("--cutoff", "3000-01-01"), "has no unlearn fact"),
        (("--ratio", "200:1"), "would have no unlearn example"),
        (("--dev_lines", "1"), "dev/dev_subset.jsonl would have no"),
    ):
        code, _, err = script("build_datasets", *flags, "--output_dir", tmp_path / "none")
        assert code == 2 and message in err and not (tmp_path / "none").exists(), err
    code, _, err = script("build_datasets", "--cutoff", "2021-01-01", "--output_dir", tmp_path / "few")
    assert code == 0 and "too few to judge a model by" in err


def test_the_builder_takes_its_settings_without_a_command_line(bank):
    settings = builder.BuildSettings(cutoff="1989-11-09", ratio=(1.0, 1.0), dev_lines=40, seed=3)
    files = builder.build(bank, settings)
    assert set(files) == set(NAMES) and len(files["dev/dev_subset.jsonl"]) == 40
    assert files == builder.build(bank, settings)
    longer = builder.build(bank, dataclasses.replace(settings, dev_lines=50))
    assert {name for name in NAMES if files[name] != longer[name]} == {"dev/dev_subset.jsonl"}
