"""Where an evaluation writes its results, replies and report, and what may be there already.

All of it is checked before any model is loaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from deepred_common import paths
from deepred_common.cli import UserError, warn
from deepred_common.evaluation import journal
from deepred_common.evaluation.settings import EvalSettings
from deepred_common.files import require_absent, require_writable_parent

# The results of --base_model: untouched, and with a system prompt that states the cutoff.
BASE_SUFFIXES = ("base", "base-prompt")
BESIDE_RESULTS = Path()  # --report without a name


def new_results(model: str) -> Path:
    """A results file named after the model and the time. Warns if an evaluation of it was cut short."""
    stem = _stem(model)
    # Of exactly this model, as merged-q8 is another one; its base's replies belong to the same evaluation.
    bases = "|".join(BASE_SUFFIXES)
    ours = re.compile(rf"(eval-{re.escape(stem)}-\d{{8}}_\d{{6}})(\.({bases}))?{re.escape(journal.SUFFIX)}")
    unfinished = [
        (match[1], file)
        for file in sorted(paths.OUTPUT.glob(f"*{journal.SUFFIX}"))
        if (match := ours.fullmatch(file.name))
    ]
    if unfinished:
        name, latest = unfinished[-1]
        results = latest.with_name(f"{name}.json")
        warn(
            f"{paths.shown(latest)} holds the replies of an evaluation that was cut short.\n"
            f"This is a new one. To resume that one, add --output {paths.quoted(results)} --resume"
        )
    return paths.OUTPUT / f"eval-{stem}-{datetime.now():%Y%m%d_%H%M%S}.json"


def _stem(model: str) -> str:
    """A model's name in the names of files: of its folder, after the run's where every run has such a one."""
    folder = Path(os.path.abspath(model))
    name = folder.name
    if re.fullmatch(r"final|checkpoint-\d+", name) and folder.parent.name:
        name = f"{folder.parent.name}-{name}"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


def base_results(output: Path) -> list[Path]:
    """The results files of --base_model beside the results file `output`, one for each of BASE_SUFFIXES."""
    return [output.with_name(f"{output.stem}.{suffix}.json") for suffix in BASE_SUFFIXES]


def report_path(report: Path | None, results: Path) -> Path | None:
    """The page of --report; beside the results file if no name was given, None without --report."""
    return results.with_suffix(".html") if report == BESIDE_RESULTS else report


def check_results(settings: EvalSettings, with_base: bool) -> None:
    """UserError if there are results, or replies of an evaluation that was cut short, and no flag for them.

    The name must end in .json: the files beside it are named after what comes before that, and those of
    "qwen2.5-base" and "qwen2.5-tuned" would be the same.

    with_base: --base_model writes its results, too.
    """
    may_exist = settings.overwrite or settings.resume
    outputs = [settings.output, *(base_results(settings.output) if with_base else ())]
    for output in outputs:
        if output.is_dir():
            raise UserError(f"the output {output} is a folder; a file name is needed.")
        require_absent(output, may_exist)
        replies = journal.path_for(output)
        if replies.exists() and not may_exist:
            raise UserError(
                f"{paths.shown(replies)} holds the replies of an evaluation that was cut short.\n"
                "Add --resume to resume it, or --overwrite to start anew."
            )
    if settings.output.suffix != ".json":
        raise UserError(f"the output is a results file: {settings.output} must end in .json")
    require_writable_parent(settings.output)


def check_report(report: Path | None, results: Sequence[Path], may_exist: bool) -> None:
    """UserError if the page cannot be written, or would replace one of the `results` files."""
    if report is None:
        return
    if report.is_dir():
        raise UserError(f"--report {report} is a folder; a file name is needed.")
    require_absent(report, may_exist)
    if any(report.resolve() == path.resolve() for path in results):
        raise UserError(f"--report {report} would replace the results; give it another name.")
    require_writable_parent(report)


def date_probe_picture(output: Path | None, model: str, cutoff: str, overwrite: bool) -> Path:
    """The picture of --date_probe: `output`, or one named after model and cutoff.

    UserError if it cannot be written, is no PNG file, or it or the JSON file beside it exists and was not to
    be replaced.
    """
    picture = output or paths.OUTPUT / f"date-probe-{_stem(model)}-{cutoff}.png"
    if picture.suffix != ".png":
        raise UserError(f"the output of --date_probe is a picture: {picture} must end in .png")
    for file in (picture, picture.with_suffix(".json")):
        require_absent(file, overwrite)
    require_writable_parent(picture)
    return picture


def relearning_results(output: Path | None, model: str, cutoff: str) -> Path:
    """The results of --attack relearn: `output`, or a file named after model and cutoff."""
    return output or paths.OUTPUT / f"relearn-{_stem(model)}-{cutoff}.json"
