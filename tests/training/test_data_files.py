"""Which of the dev examples are held out."""

import json

import pytest

from deepred_common.training.data_files import DataFiles
from deepred_common.training.settings import TrainSettings


@pytest.fixture
def dev_split(tmp_path):
    """dev_split(subjects): the Examples of a dev file with a retain and an unlearn line for each."""

    def split(subjects):
        lines = [
            {
                "instruction": f"Question {number} on the {side} side?",
                "output": "An answer.",
                "metadata": {"dataset_type": side, "source_title": subject and f"{subject} {side}"},
            }
            for number, subject in enumerate(subjects)
            for side in ("retain", "unlearn")
        ]
        path = tmp_path / "dev.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return DataFiles(TrainSettings(dev=True, dev_path=path, replay_share=0)).examples()

    return split


def titles(examples):
    return {example.metadata["source_title"] for example in examples}


def test_no_other_example_is_about_a_held_out_subject(dev_split):
    training, validation = dev_split(["Spotify", "Skylab", "Apollo"] * 5 + list("abcde"))
    assert [example.side for example in validation].count("retain") == len(validation) / 2 == 2
    assert not titles(validation) & titles(training)


@pytest.mark.parametrize("subjects", [["Spotify"] * 20, [None] * 20])
def test_where_each_subject_has_several_examples_or_none_is_named_any_are_held_out(subjects, dev_split):
    training, validation = dev_split(subjects)
    assert (len(training), len(validation)) == (36, 4)
