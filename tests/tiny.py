"""Tiny models with random weights, and LoRA adapters on them."""

# Two layers, and fewer key-value heads than heads, as the families have them.
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}


def save_base(folder, tokenizer, kind="llama", dtype=None, max_shard_size="1GB", **shape):
    """Write a model with random weights, and its tokenizer, to a folder; returns the model.

    kind: a model_type of transformers. dtype: of the weights, fp32 by default. shape: settings of its config,
    beside SHAPE. Call torch.manual_seed before.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    tokens = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **(SHAPE | tokens | shape))
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer.save_pretrained(folder)
    return model


def add_lora(model, **config):
    """The model with a LoRA adapter of random weights, as after a training. config: of peft's LoraConfig."""
    import torch
    from peft import LoraConfig, get_peft_model

    tuned = get_peft_model(model, LoraConfig(**({"r": 4, "task_type": "CAUSAL_LM"} | config)))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_magnitude" in name or "modules_to_save" in name:
                parameter.mul_(1 + 0.1 * torch.randn_like(parameter))
            elif "lora_" in name:
                parameter.normal_(std=0.05)
    return tuned
