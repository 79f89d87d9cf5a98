"""What the libraries are told before anything is computed."""

import os

import torch

from deepred_common import devices
from deepred_common.models import loading


def test_the_users_own_size_of_onednns_cache_stays(monkeypatch):
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    loading.set_up_libraries()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    loading.set_up_libraries()
    assert int(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) < 1024


def test_no_model_uses_fused_attention_on_rocm_where_it_hangs_some_gpus(tiny_models, monkeypatch):
    def attention():
        return loading.load_model(tiny_models["llama"], torch.float32).config._attn_implementation

    assert attention() == "sdpa"
    monkeypatch.setattr(devices, "on_rocm", lambda: True)
    assert attention() == "eager"
