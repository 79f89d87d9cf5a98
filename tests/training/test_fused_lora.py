"""A layer and its adapter in one step: the same outputs and gradients as peft's."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from deepred_common.training import fused_lora


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(12, 20, bias=False), nn.Linear(20, 7)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


@pytest.fixture
def models():
    """The same network and adapter twice: as peft computes it, and fused."""
    torch.manual_seed(0)
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["first", "second"], init_lora_weights=False)
    usual = get_peft_model(Network(), config)
    fused = copy.deepcopy(usual)
    fused_lora.fuse(fused)
    return usual, fused


def outputs_and_gradients(model, x, autocast):
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", enabled=autocast):
        output = model(x)
        output.square().sum().backward()
    adapter = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert all(gradient.dtype == torch.float32 for gradient in adapter.values())
    return output, x.grad, adapter


@pytest.mark.parametrize(("autocast", "error"), [(False, 1e-5), (True, 3e-2)])
def test_the_fused_layer_computes_what_peft_s_does(models, autocast, error):
    x = torch.randn(2, 5, 12)
    (output, of_x, adapter), (fused, fused_of_x, fused_adapter) = (
        outputs_and_gradients(model, x, autocast) for model in models
    )
    assert fused.dtype == output.dtype and fused.shape == output.shape
    torch.testing.assert_close(fused, output, rtol=error, atol=error)
    torch.testing.assert_close(fused_of_x, of_x, rtol=error, atol=10 * error)
    assert adapter.keys() == fused_adapter.keys() and len(adapter) == 4
    for name, gradient in adapter.items():
        torch.testing.assert_close(fused_adapter[name], gradient, rtol=error, atol=20 * error)


def test_without_its_adapter_the_fused_model_is_the_base(models):
    usual, fused = models
    x = torch.randn(4, 12)
    with usual.disable_adapter():
        base = usual(x)
    with fused.disable_adapter():
        assert torch.equal(fused(x), base)
    assert not torch.allclose(fused(x), base)
