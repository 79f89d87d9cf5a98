"""Memory before training: the model's figures, the largest batch, and when activations are recomputed."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset

from deepred_common.training import container_memory, memory_estimate
from deepred_common.training.memory_estimate import Batch, Precision, Shape
from deepred_common.training.objectives.sft import Sft
from deepred_common.training.settings import TrainSettings

SHAPE = Shape(
    parameters=1000,
    linear=600,
    trained=10,
    hidden=16,
    inner=64,
    heads=2,
    attention=16,
    layers=3,
    vocabulary=100,
)
FP32 = Precision(bytes_each=4, linear_bits=None)
SETTINGS = TrainSettings(lora_r=8, batch_size=4)


def rows(lengths, starts, ids=None):
    """Rows that begin with different tokens, unless `ids` are given."""
    ids = ids or [[row] * length for row, length in enumerate(lengths)]
    figures = {"length": lengths, "longest": lengths, "reply_start": starts, "side": [0] * len(lengths)}
    return Dataset.from_dict(figures | {"input_ids": ids})


def test_the_figures_are_those_of_the_model(tiny_models):
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = memory_estimate.shape_of(AutoConfig.from_pretrained(tiny_models["llama"]), lora_r=8)
    model = AutoModelForCausalLM.from_pretrained(tiny_models["llama"])
    assert shape.parameters == model.num_parameters()
    linear = {name: p for name, p in model.named_parameters() if "proj" in name}
    assert shape.linear == sum(p.numel() for p in linear.values())
    assert shape.trained == sum(8 * sum(p.shape) for p in linear.values())


@pytest.mark.parametrize(
    "kind", ["falcon", "gpt2", "bloom", "mpt", "opt", "gemma3n_text", "gemma4_text", "mamba"]
)
def test_families_that_name_their_sizes_otherwise_have_a_shape(kind):
    """Falcon, GPT-2, Bloom, MPT and OPT have no intermediate_size, Mamba no heads; Gemma's layers differ."""
    from transformers import AutoConfig

    shape = memory_estimate.shape_of(AutoConfig.for_model(kind), lora_r=8)
    assert shape.linear and shape.trained and shape.attention >= shape.hidden and shape.inner > shape.hidden


def test_quantised_weights_and_recomputed_activations_take_less():
    batch = Batch(tokens=200, scores=0, outputs=80, labels=80)
    plain = memory_estimate.peak_memory(SHAPE, batch, FP32, checkpointing=False)
    four_bits = dataclasses.replace(FP32, linear_bits=4)
    assert plain - memory_estimate.peak_memory(SHAPE, batch, four_bits, False) == 600 * 3.5
    # In bf16 as well, peft casts the 400 weights outside the linear layers to fp32.
    sizes = [
        memory_estimate.peak_memory(SHAPE, batch, Precision(2, linear_bits=bits), False) for bits in (None, 8)
    ]
    assert sizes[1] - sizes[0] == 400 * (4 - 2) + 600 * (1 - 2)
    assert memory_estimate.peak_memory(SHAPE, batch, FP32, True) < plain
    eager = dataclasses.replace(batch, scores=4 * 50 * 50)
    scores = 3 * 2 * 4 * 50 * 50  # layers x heads x rows x length²
    assert memory_estimate.peak_memory(SHAPE, eager, FP32, False) - plain == scores * 4
    bf16 = dataclasses.replace(FP32, bytes_each=2)  # the softmax is in fp32, and then once more in bf16
    both = [memory_estimate.peak_memory(SHAPE, each, bf16, False) for each in (batch, eager)]
    assert both[1] - both[0] == scores * (4 + 2)


def test_training_all_weights_takes_sixteen_bytes_of_each_and_the_copies_that_it_needs(
    tiny_models, monkeypatch
):
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(tiny_models["llama"])
    whole = memory_estimate.shape_of(config, lora_r=None)
    assert whole.trained == whole.parameters
    monkeypatch.setattr(memory_estimate, "available", lambda device: 10**12)
    monkeypatch.setattr(memory_estimate, "used_by_process", lambda device: 0)

    def bytes_of_a_weight(dtype, **settings):
        """Less what activations and logits take, which both ways have in common."""
        peaks = [
            memory_estimate.estimate(
                changed,
                *(config, rows([30], [10]), torch.device("cpu"), dtype),
                needs_reference=changed.needs_reference(False),
            ).peak
            for changed in (TrainSettings(full=True, **settings), TrainSettings(lora_r=1))
        ]
        adapter = memory_estimate.shape_of(config, lora_r=1).trained
        frozen = dtype.itemsize * whole.parameters + memory_estimate.TRAINED_BYTES * adapter
        return (peaks[0] - peaks[1] + frozen) / whole.parameters

    # Weights, gradients and Adam's moments in fp32; then the reference, and what autocast makes of weights.
    plain = {"objective": Sft(), "replay_share": 0}
    assert bytes_of_a_weight(torch.float32, **plain) == pytest.approx(16)
    assert bytes_of_a_weight(torch.float32) == pytest.approx(16 + 4)
    assert bytes_of_a_weight(torch.bfloat16, **plain) == pytest.approx(16 + 2)
    assert bytes_of_a_weight(torch.bfloat16) == pytest.approx(16 + 2 + 2)


def only_batch(training, packs=False, longest_with_scores=0):
    settings = dataclasses.replace(SETTINGS, gradient_accumulation_steps=1, epochs=1)
    (batch,) = memory_estimate.forward_passes(training, settings, packs, longest_with_scores)
    return batch


def test_padded_rows_have_outputs_wherever_some_row_has_a_reply():
    assert only_batch(rows([30, 50], [10, 25])) == Batch(2 * 50, 0, 2 * (50 - 10), 20 + 25)
    with_a_pair = rows([30, 50], [10, 25]).remove_columns("length").add_column("length", [55, 50])
    assert only_batch(with_a_pair) == Batch(3 * 50, 0, 3 * (50 - 10), 20 + 15 + 25)
    assert only_batch(rows([30, 50], [10, 25]), longest_with_scores=50).scores == 30**2 + 50**2
    assert only_batch(rows([30, 50], [10, 25]), longest_with_scores=49).scores == 30**2


def test_one_epoch_stands_for_all():
    """Ordering 150 000 rows takes half a second an epoch, walking through the order another."""
    training = rows(list(range(20, 60)), [10] * 40)
    counts = [
        len(list(memory_estimate.forward_passes(training, dataclasses.replace(SETTINGS, epochs=n), False, 0)))
        for n in (1, 3)
    ]
    assert counts == [10, 10]


def test_packed_rows_have_no_outputs_beside_the_labels_and_their_common_start_once():
    ids = [[1, 2, 3, 4, *range(100, 126)], [1, 2, 3, 9, *range(200, 246)]]
    assert only_batch(rows([30, 50], [10, 25], ids), packs=True) == Batch(30 + 50 - 3, 0, 0, 20 + 25)
    # The last token of a prompt predicts the reply's first one, so each row needs its own.
    assert only_batch(rows([30, 50], [3, 25], ids), packs=True).tokens == 30 + 50 - 2


def test_activations_are_recomputed_only_where_they_would_not_fit(tiny_models, monkeypatch):
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(tiny_models["llama"])
    training = rows([100, 200], [20, 150])
    shape = memory_estimate.shape_of(config, SETTINGS.lora_r)
    batches = list(memory_estimate.forward_passes(training, SETTINGS, True, 256))
    recomputed, kept = (
        max(
            memory_estimate.peak_memory(shape, batch, FP32, checkpointing, memory_estimate.CPU_SLACK)
            for batch in batches
        )
        for checkpointing in (True, False)
    )
    assert recomputed < kept
    recomputed, kept = (size + memory_estimate.CPU_LIBRARIES for size in (recomputed, kept))
    for free, checkpointing, fits in (
        (2 * kept, False, True),
        (kept, True, True),
        (recomputed - 1, True, False),
    ):
        monkeypatch.setattr(memory_estimate, "available", lambda device, free=free: free)
        estimate = memory_estimate.estimate(
            SETTINGS, config, training, torch.device("cpu"), torch.float32, needs_reference=False
        )
        assert (estimate.checkpointing, estimate.fits) == (checkpointing, fits)
        assert f"gradient checkpointing {'on' if checkpointing else 'off'}" in estimate.text
        # Nothing is known of the time before some updates were timed.
        assert " min" not in estimate.text and "of training" not in estimate.text


# ---- how much is free ------------------------------------------------------------------------------------

CPU = torch.device("cpu")


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """groups(own, files): this process is in control groups of these limits, of a machine with 64 GB free."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=64 * 10**9))
    monkeypatch.setattr(container_memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(container_memory, "OWN_GROUPS", tmp_path / "own")

    def make(own, files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{text}\n")

    return make


def test_without_a_container_all_that_is_free_counts(groups):
    groups("0::/user.slice\n", {"user.slice/memory.max": "max", "user.slice/memory.current": "1000"})
    assert memory_estimate.available(CPU) == 64 * 10**9


@pytest.mark.parametrize("own", ["0::/\n", "0::/jobs/one\n"])
def test_a_container_s_limit_counts_less_what_is_taken_but_for_the_cache(own, groups):
    place = "jobs/" if "jobs" in own else ""  # the limit may be that of a group around the own one
    stat = "anon 2500000000\nactive_file 300000000\ninactive_file 200000000\nshmem 7"
    files = {"memory.max": "8000000000", "memory.current": "3000000000", "memory.stat": stat}
    groups(own, {place + name: text for name, text in files.items()})
    assert memory_estimate.available(CPU) == 5_500_000_000


@pytest.mark.parametrize(("limit", "free"), [("8000000000", 5_500_000_000), (str(2**63 - 4096), 64 * 10**9)])
def test_an_older_container_s_limit_counts(limit, free, groups):
    files = {
        "memory.limit_in_bytes": limit,
        "memory.usage_in_bytes": "3000000000",
        "memory.stat": "active_file 1\ntotal_active_file 300000000\ntotal_inactive_file 200000000",
    }
    groups(
        "5:memory:/docker/0123\n1:cpu,cpuacct:/x\n", {f"memory/{name}": text for name, text in files.items()}
    )
    assert memory_estimate.available(CPU) == free


def test_processes_on_one_machine_share_its_memory(groups, monkeypatch):
    groups("", {})
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert memory_estimate.available(CPU) == 16 * 10**9
