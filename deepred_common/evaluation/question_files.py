"""What a model is asked, and the questions of the test files. probe_examples makes those of --probes."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deepred_common import paths, provenance
from deepred_common.examples import SIDES, Example, balanced_sample, read_examples
from deepred_common.files import json_text
from deepred_common.source_files import require_unchanged, stamps


@dataclass(frozen=True)
class Questions:
    """What a model is asked. data: {file: SHA-256}. forms: the names of the probe forms, if any."""

    examples: list[Example]
    data: dict[str, str]
    forms: Sequence[str] = ()

    @functools.cached_property
    def digest(self) -> str:
        """A hash of all that is asked and judged by, in order, since replies are saved by number."""
        rows = [
            [one.instruction, one.earlier, one.prefix, one.output, one.side, one.metadata]
            for one in self.examples
        ]
        return hashlib.sha256(json_text(rows).encode()).hexdigest()


def read(files: Sequence[Path] | None, limit: int | None, seed: int) -> Questions:
    """At most `limit` questions of the files, evenly of both sides, chosen by `seed`.

    files: None takes the validation files of both sides. UserError for a line that is no example.
    """
    # Each file with the side of its questions; None: each question or the file's name says it.
    sides: list[tuple[Path, str | None]] = [(paths.dataset_file(f"{side}_val"), side) for side in SIDES]
    if files:
        sides = [(path, None) for path in files]
    before = stamps(path for path, _ in sides)
    examples = [example for path, side in sides for example in read_examples(path, side)]
    data = {paths.shown(path): provenance.sha256(path) for path, _ in sides}
    require_unchanged(before)
    return Questions(balanced_sample(examples, limit, seed), data)
