"""A model given by its hub name: the commit that it was loaded from is known."""

import shutil

from deepred_common.models import loading

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_hub_s_commit_is_known_from_the_cache__made_by_hand(tmp_path, tiny_models, monkeypatch):
    from huggingface_hub import constants

    cached = tmp_path / "models--some--tiny"
    shutil.copytree(tiny_models["llama"], cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert loading.revision("some/tiny") == loading.identity("some/tiny") == COMMIT
    assert loading.revision(tiny_models["llama"]) is None
