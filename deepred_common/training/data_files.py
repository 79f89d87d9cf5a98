"""The data files of a training run: their hashes, and the examples in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from deepred_common import provenance
from deepred_common.cli import UserError
from deepred_common.examples import CHAT, Example, balanced_sample, read_examples
from deepred_common.json_lines import require_file
from deepred_common.source_files import require_unchanged, stamps
from deepred_common.training.settings import TRAINING_FILES, VALIDATION_FILES, TrainSettings

DEV_VALIDATION_SHARE = 0.1
LEAST_DEV_VALIDATION = 2  # one example of each side
LEAST_DEV_EXAMPLES = 4


class Examples(NamedTuple):
    """The examples to train on and to validate with."""

    training: list[Example]
    validation: list[Example]


class DataFiles:
    """Hashed at once, but read only when needed: mostly output/cache/ holds all that is made of the examples.

    hashes: {flag: SHA-256 of its file}.
    """

    def __init__(self, settings: TrainSettings) -> None:
        """UserError if a file does not exist."""
        self._settings = settings
        self._examples: Examples | None = None
        self._replay: list[Example] | None = None
        self._stamps = stamps(settings.data_files.values())
        self.hashes = {
            name: provenance.sha256(require_file(path)) for name, path in settings.data_files.items()
        }

    def key(self, with_paths: bool = False) -> list[str]:
        """Texts that tell these examples (without replay) from others, for the caches."""
        texts = [
            f"{name} {path} {self.hashes[name]}" if with_paths else f"{name} {self.hashes[name]}"
            for name, path in self._settings.dated_files.items()
        ]
        # The seed chooses which dev examples are held out. Raise the number when they are chosen otherwise.
        return [*texts, f"dev 2, {self._settings.seed}"] if self._settings.dev else texts

    def examples(self) -> Examples:
        """The examples, checked. UserError naming the first line that is not right."""
        if self._examples is None:
            self._examples = _read_dev(self._settings) if self._settings.dev else _read_all(self._settings)
            require_unchanged(self._stamps)  # or the hashes, and what is kept by them, would be of others
        return self._examples

    def replay_prompts(self) -> list[Example]:
        """The prompts of the replay files. UserError naming the first line that is not right."""
        if self._replay is None:
            files = self._settings.replay if self._settings.uses_replay else ()
            self._replay = [example for path in files for example in read_examples(path, CHAT)]
            require_unchanged(self._stamps)
        return self._replay

    def release(self) -> None:
        """Free the examples' memory, once they are tokens."""
        self._examples = None
        self._replay = None


def _read_all(settings: TrainSettings) -> Examples:
    examples = {name: read_examples(path, name.split("_")[0]) for name, path in settings.dated_files.items()}
    training = [example for name in TRAINING_FILES for example in examples[name]]
    validation = [example for name in VALIDATION_FILES for example in examples[name]]
    return Examples(training, validation)


def _read_dev(settings: TrainSettings) -> Examples:
    """Both out of the dev subset, a tenth of which is held out for validation."""
    examples = read_examples(settings.dev_path)
    for example in examples:
        if example.side == CHAT:
            raise UserError(
                f"{example.where} is a chat example; put such prompts into a file of their own, for --replay."
            )
    if len(examples) < LEAST_DEV_EXAMPLES:
        raise UserError(
            f"{settings.dev_path} has {len(examples)} examples; at least {LEAST_DEV_EXAMPLES} are needed, "
            f"because {LEAST_DEV_VALIDATION} are held out for validation."
        )
    count = max(LEAST_DEV_VALIDATION, round(len(examples) * DEV_VALIDATION_SHARE))
    validation = _held_out_of_dev(examples, count, settings.seed)
    held_out = {id(example) for example in validation}
    training = [example for example in examples if id(example) not in held_out]
    return Examples(training, validation)


def _held_out_of_dev(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """`count` examples, as even between the sides as can be; about subjects of their own if there are enough.

    An example about the same subject in the training part would tell what is asked.
    """
    subjects = [_subject(example) for example in examples]
    times = Counter(subjects)
    alone = [
        one for one, subject in zip(examples, subjects, strict=True) if not subject or times[subject] == 1
    ]
    held_out, of_all = (balanced_sample(some, count, seed) for some in (alone, examples))
    sides, sides_of_all = (Counter(one.side for one in some) for some in (held_out, of_all))
    return held_out if sides == sides_of_all else of_all


def _subject(example: Example) -> str:
    """What names the example's subject; empty if nothing does."""
    return str(example.metadata.get("source_article_id") or example.metadata.get("source_title") or "")
