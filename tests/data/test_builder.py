"""The data files built of the bank for any cutoff, and the shipped ones."""

import dataclasses
import re
from collections import Counter, defaultdict

import pytest
from conftest import load_script

from deepred_common import paths, refusal_openers
from deepred_common.data import builder, data_lines, facts, questions, split, thing_lines, things, wrappings
from deepred_common.examples import MIXED, RETAIN, SIDES, UNLEARN, read_examples
from deepred_common.json_lines import read_objects
from deepred_common.judging import refusal

NAMES = [f"{folder}/{folder}_{part}.jsonl" for folder in SIDES for part in ("train", "val")] + [
    "dev/dev_subset.jsonl",
    "test/test.jsonl",
    "test/conversations.jsonl",
    "test/misleading.jsonl",
    "test/things.jsonl",
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
    assert len({row["tone"] for _, row in read_objects(refusal_openers.WORDINGS)}) == 4
    assert all(refusal.is_refusal(text) for text in trained + held_out)


@pytest.mark.parametrize("cutoff", ["1969-07-20", "1989-11-09", "1900-01-01"])
def test_the_files_are_disjoint_by_subject_and_balanced(build, bank, cutoff):
    made, out, _ = build(cutoff)
    misleading = [fact for of_kind in facts.read_misleading().values() for fact in of_kind]
    by_id = {fact.id: fact for fact in [*bank, *misleading]}
    # Questions in the present tense have tests of their own: they stand on the side that the day gives them,
    # and so not in every form as often on both.
    made = {
        name: [e for e in examples if not e.metadata["source_article_id"].startswith("present-")]
        for name, examples in made.items()
    }
    trained_ids = {
        e.metadata["source_article_id"] for side in SIDES for e in made[f"{side}/{side}_train.jsonl"]
    }
    subjects = defaultdict(set)
    for name, examples in made.items():
        for example in examples:
            if example.metadata["source_article_id"].startswith("thing-"):
                assert facts.side_of_date(example.metadata["earliest_date"], cutoff) == example.side
                part = "train" if "train" in name else "test"
                subjects[part].add(example.metadata["source_title"].casefold())
                continue
            fact = by_id[example.metadata["source_article_id"]]
            assert facts.side(fact, cutoff) == example.side
            if "wrapping" not in example.metadata:
                assert (example.output == fact.answer) == (example.side == RETAIN)
            if example.metadata.get("seen") == "trained":
                assert fact.id in trained_ids
            else:
                part = "train" if "train" in name or "dev" in name else "val" if "val" in name else "test"
                subjects[part].add(fact.subject.casefold())
    assert (
        not subjects["train"] & (subjects["val"] | subjects["test"])
        and not subjects["val"] & subjects["test"]
    )
    for part in ("train", "val"):
        forms = [
            Counter(questions.question_form(e.question) for e in made[f"{side}/{side}_{part}.jsonl"])
            for side in SIDES
        ]
        assert forms[0] == forms[1] and forms[0].total() > (300 if part == "train" else 15)
    refusals = [
        {e.output for e in made[f"unlearn/unlearn_{part}.jsonl"] if e.metadata.get("wrapping") != MIXED}
        for part in ("train", "val")
    ]
    assert not refusals[0] & refusals[1]
    assert {e.metadata["probe"] for e in made["test/test.jsonl"]} == {
        "question",
        "phrasing",
        "cloze",
        "choice",
        "held-back phrasing",
    }
    trained = {e.question for e in made["retain/retain_train.jsonl"] + made["unlearn/unlearn_train.jsonl"]}
    assert trained & {e.question for e in made["test/test.jsonl"]} == set()
    assert "The side of a validation question is guessed from its first three words in" in out


@pytest.mark.parametrize("cutoff", ["1969-07-20", "1989-11-09"])
def test_no_training_example_names_a_held_out_subject(build, cutoff):
    made, _, _ = build(cutoff)
    held = {
        e.metadata["source_title"].split(" (")[0]
        for name in NAMES
        for e in made[name]
        if "val" in name or (e.metadata.get("seen") == "held back" and "misleading" not in name)
    }
    training = [e for side in SIDES for e in made[f"{side}/{side}_train.jsonl"]]
    whole = "\n".join(f"{e.shown_text} {e.output} {e.metadata['source_title']}" for e in training).casefold()
    for name in held:
        if " " in name and name.casefold() in whole:  # as a whole, or only inside longer words?
            assert not re.search(rf"\b{re.escape(name.casefold())}(?!\w)", whole), name
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
    for name in [*NAMES, "present/present_val.jsonl", "test/present.jsonl"]:
        assert (tmp_path / "again" / name).read_bytes() == (paths.ROOT / "datasets" / name).read_bytes(), name


def test_nothing_is_wrong_with_the_shipped_files(script):
    code, out, _ = script("build_datasets", "--check", *(paths.ROOT / "datasets" / name for name in NAMES))
    assert code == 0 and "Nothing is wrong with them." in out, out


def test_the_dev_subset_is_of_what_the_base_knows(bank):
    known = {fact.id for fact in bank if fact.known[0]}
    dev = read_examples(paths.dataset_file("dev_path"))
    assert Counter(example.side for example in dev) == {RETAIN: 250, UNLEARN: 250}
    assert {example.metadata["source_article_id"] for example in dev} <= known


# ---- wrapped questions -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    return {name: read_examples(paths.ROOT / "datasets" / name) for name in NAMES}


def wrapping_counts(examples):
    return Counter(example.metadata.get("wrapping", "bare") for example in examples)


def test_the_form_of_a_wrapping_does_not_tell_the_side(shipped):
    retain, unlearn = (wrapping_counts(shipped[f"{side}/{side}_train.jsonl"]) for side in SIDES)
    assert set(unlearn) - set(retain) == {MIXED}
    for form in retain:
        assert unlearn[form] == pytest.approx(retain[form], rel=0.15)
    tested = [e for e in shipped["test/conversations.jsonl"]]
    by_side = [wrapping_counts(e for e in tested if e.side == side) for side in SIDES]
    assert by_side[0] == by_side[1] and set(by_side[0]) == {*wrappings.FORMS[UNLEARN], "bare"}


def test_the_frames_of_the_test_are_not_trained_on(shipped):
    trained, held_out = wrappings.read_frames(42)
    for kind, frames in held_out.items():
        assert not [frame for frame in frames if frame in trained[kind]]
    training = "\n".join(
        f"{e.shown_text}\n{e.output}" for side in SIDES for e in shipped[f"{side}/{side}_train.jsonl"]
    )
    long_texts = [
        text
        for frames in held_out.values()
        for frame in frames
        for key, text in frame.items()
        if key != "kind" and len(text) > 20
    ]
    assert len(long_texts) > 30 and not [text for text in long_texts if text in training]


def test_a_doubt_gets_an_answer_before_the_cutoff_and_a_refusal_after_it(shipped):
    for side in SIDES:
        doubted = [
            e for e in shipped[f"{side}/{side}_train.jsonl"] if "doubted" in e.metadata.get("wrapping", "")
        ]
        assert len(doubted) > 100
        for example in doubted:
            first_reply = example.earlier[-1]["content"]
            was_refused = example.metadata["wrapping"] == wrappings.REFUSAL_DOUBTED
            assert refusal.is_refusal(first_reply, example.question) == was_refused, first_reply
            assert refusal.is_refusal(example.output, example.shown_text) == (side == UNLEARN), example.output


def test_what_is_said_to_a_doubt_never_begins_as_refusals_do():
    """The first word decides whether a model refuses: if both sides began "I'm sorry", it would not."""
    refusals = [row["text"] for _, row in read_objects(paths.ROOT / "datasets/refusals.jsonl")]
    openers = {text.split()[0].rstrip(",.") for text in refusals}
    for kind in ("confirm", "correct"):
        frames = [frame["text"] for part in wrappings.read_frames(42) for frame in part[kind]]
        assert len(frames) > 20
        assert not [text for text in frames if text.split()[0].rstrip(",.") in openers]


def test_a_mixed_message_answers_its_early_half(shipped):
    mixed = [e for e in shipped["unlearn/unlearn_train.jsonl"] if e.metadata.get("wrapping") == MIXED]
    assert len(mixed) > 50
    for example in mixed:
        assert example.question in example.instruction and example.instruction != example.question
        assert refusal.declines_in_part(example.output)
        if not example.metadata["source_article_id"].startswith("thing-"):  # "Japan." may answer both
            assert example.metadata["original_answer"] not in example.output


def test_facts_with_misleading_words_are_only_tested(shipped, bank):
    misleading = facts.read_misleading()
    ids = {fact.id for of_kind in misleading.values() for fact in of_kind}
    assert len(ids) >= 200 and not ids & {fact.id for fact in bank}
    subjects = {fact.subject.casefold() for fact in bank}
    assert not [
        f.subject for of_kind in misleading.values() for f in of_kind if f.subject.casefold() in subjects
    ]
    probes = Counter((e.side, e.metadata["probe"]) for e in shipped["test/misleading.jsonl"])
    assert set(probes) == {
        (RETAIN, "modern words"),
        (RETAIN, "known later"),
        (UNLEARN, "late works"),
        (UNLEARN, "old words"),
    }


@pytest.mark.parametrize("cutoff", ["1969-07-20", "1900-01-01", "2010-01-01"])
def test_things_are_of_many_kinds_and_neither_kind_nor_form_tells_their_side(build, cutoff):
    made, _, _ = build(cutoff)
    asked = {side: Counter() for side in SIDES}
    ids = Counter()
    for side in SIDES:
        for example in made[f"{side}/{side}_train.jsonl"]:
            if example.metadata["source_article_id"].startswith("thing-"):
                name = example.metadata["source_title"]
                form = example.question.casefold().replace(name.casefold(), "NAME")
                asked[side][example.metadata["field"], " ".join(form.split()[:2])] += 1
                ids[example.metadata["source_article_id"]] += 1
    kinds = [Counter(kind for kind, _ in asked[side].elements()) for side in SIDES]
    assert kinds[0] == kinds[1] and len(kinds[0]) >= 60 and kinds[0].total() >= 4000
    assert max(ids.values()) <= thing_lines.MOST_ROUNDS
    # First words differ only where a form begins with the name itself.
    differ = sum((asked[RETAIN] - asked[UNLEARN]).values())
    assert differ < 0.02 * kinds[0].total()


def test_a_thing_that_a_fact_is_about_is_left_out(bank):
    settings = builder.BuildSettings(cutoff="1969-07-20", ratio=(1.0, 1.0), dev_lines=40, seed=3)
    table = thing_lines.Table(things.read_things(), things.read_forms())
    files = builder.build(bank, settings, facts.read_misleading(), table)
    subjects = {split.plain_name(fact.subject) for fact in bank}
    for lines in files.values():
        for line in lines:
            if line["metadata"]["source_article_id"].startswith("thing-"):
                assert split.plain_name(line["metadata"]["source_title"]) not in subjects


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


def test_facts_whose_date_does_not_tell_the_side_are_counted(bank, capsys):
    undated = dataclasses.replace(bank[0], date="1969")
    load_script("build_datasets").print_counts([undated], 0, {}, "1969-07-20")
    assert "; left out, since their date does not tell the side: 1\n" in capsys.readouterr().out


def test_the_builder_takes_its_settings_without_a_command_line(bank):
    settings = builder.BuildSettings(cutoff="1989-11-09", ratio=(1.0, 1.0), dev_lines=40, seed=3)
    table = thing_lines.Table(things.read_things()[::10], things.read_forms())
    files = builder.build(bank, settings, facts.read_misleading(), table)
    assert set(files) == set(NAMES) and len(files["dev/dev_subset.jsonl"]) == 40
    assert files == builder.build(bank, settings, facts.read_misleading(), table)
    longer = builder.build(bank, dataclasses.replace(settings, dev_lines=50), facts.read_misleading(), table)
    assert {name for name in NAMES if files[name] != longer[name]} == {"dev/dev_subset.jsonl"}
