"""devices.py: what a process may use of its machine."""

import os

import pytest
from fake_server import running

from deepred_common import devices
from deepred_common.cli import UserError


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot bind a process to CPUs")
def test_cpus_that_a_container_or_job_withholds_are_not_counted():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert devices.usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_gpu_that_this_torch_has_no_code_for_is_named_at_once__fake_gpu(monkeypatch):
    import torch

    def fail(*args, **kwargs):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA GeForce RTX 5090")
    monkeypatch.setattr(torch, "zeros", fail)
    devices._require_kernels.cache_clear()
    with pytest.raises(UserError, match=r"no code for this GPU, NVIDIA GeForce RTX 5090\.\nInstall the"):
        devices.pick_device()


def test_a_gpu_that_torch_does_not_see_is_noticed_unless_it_is_hidden(monkeypatch, tmp_path):
    for name in ("CUDA", "HIP", "ROCR"):
        monkeypatch.delenv(f"{name}_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "_NVIDIA_DRIVER", (tmp_path / "none", tmp_path))
    assert devices.unused_gpu() == "NVIDIA"
    monkeypatch.setattr(devices, "_NVIDIA_DRIVER", (tmp_path / "none",))
    monkeypatch.setattr(devices, "_AMD_DRIVER", (tmp_path, tmp_path / "none"))
    assert devices.unused_gpu() is None
    monkeypatch.setattr(devices, "_AMD_DRIVER", (tmp_path, tmp_path))
    assert devices.unused_gpu() == "AMD"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert devices.unused_gpu() is None


def test_a_proxy_does_not_hide_an_lm_studio_that_holds_the_gpu(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("http_proxy", raising=False)
    with running() as server:
        port = str(server.http.server_port)
        monkeypatch.setenv("LMSTUDIO_PORT", port)
        assert devices.lm_studio_here() == f"http://localhost:{port}/v1/models"
    assert devices.lm_studio_here() is None
