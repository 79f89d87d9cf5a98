"""The name of the base to set beside a model: of a hub's, with the commit that the model was trained on.

That is "organisation/model@commit", which no hub name is.
"""

from __future__ import annotations

import os
from pathlib import Path

from deepred_common.models import folders, loading
from deepred_common.models.trained_weights import Adapter, require_adapter


def as_trained(base: str, path: str | None) -> str:
    """`base`, at the commit that the model at `path` names, if that is an adapter on this hub model."""
    adapter = _adapter(path)
    if adapter is None or adapter.base != base or folders.looks_like_path(base):
        return base
    revision = adapter.config.get("revision")
    return f"{base}@{revision}" if revision else base


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


def _parts(name: str) -> tuple[str, str | None]:
    """The hub name and the commit of a name; (name, None) of any other one."""
    if folders.looks_like_path(name):
        return name, None
    model, _, revision = name.partition("@")
    return model, revision or None
