"""The name of the base to set beside a model: of a hub's, with the commit that the model was trained on.

That is "organisation/model@commit", which no hub name is.
"""

from __future__ import annotations

import os
from pathlib import Path

from deepred_common.cli import UserError
from deepred_common.files import read_json
from deepred_common.models import folders, loading
from deepred_common.models.trained_weights import Adapter, require_adapter


def as_trained(base: str, path: str | None) -> str:
    """`base`, at the commit that the model at `path` was trained on, if that was this hub model.

    An adapter names it, and so does the run.json beside a model whose weights were all trained.
    """
    if folders.looks_like_path(base):
        return base
    adapter = _adapter(path)
    trained_on, revision = (adapter.base, adapter.config.get("revision")) if adapter else _base_of_run(path)
    return f"{base}@{revision}" if revision and trained_on == base else base


def own(path: str) -> str | None:
    """The base that an adapter at `path` names, as `as_trained` has it; None for a whole model."""
    adapter = _adapter(path)
    return as_trained(adapter.base, path) if adapter else None


def whole(name: str) -> str:
    """A name that means the same from any working directory."""
    return os.path.abspath(name) if folders.looks_like_path(name) else name


def is_still(earlier: str, name: str) -> bool:
    """Whether `name` means the base that earlier results call `earlier`, by whichever path.

    Older results have a hub's name without the commit.
    """
    (model, revision), (other, its_revision) = _parts(earlier), _parts(name)
    return os.path.realpath(model) == os.path.realpath(other) and revision in (None, its_revision)


def folder(name: str, trust_remote_code: bool) -> str | Path:
    """What transformers loads a name from: the folder of its commit, downloaded if need be, or the name."""
    model, revision = _parts(name)
    return loading.base_folder(model, revision, trust_remote_code) if revision else name


def identity(name: str) -> str | None:
    """loading.identity of a name."""
    model, revision = _parts(name)
    return loading.revision(model, revision) if revision else loading.identity(name)


def _adapter(path: str | None) -> Adapter | None:
    return require_adapter(path) if path and folders.is_adapter(path) else None


def _base_of_run(path: str | None) -> tuple[str | None, str | None]:
    """(base, its commit) that the run whose folder the model at `path` is in began from, as far as known."""
    if not path or not Path(path).is_dir():
        return None, None
    try:
        run = read_json(Path(path).resolve().parent / "run.json")
        return run["model_name"], run["identity"]["base_revision"]
    except (UserError, OSError, KeyError, TypeError):  # no run's, or an older one's, which lacks entries
        return None, None


def _parts(name: str) -> tuple[str, str | None]:
    """The hub name and the commit of a name; (name, None) of any other one."""
    if folders.looks_like_path(name):
        return name, None
    model, _, revision = name.partition("@")
    return model, revision or None
