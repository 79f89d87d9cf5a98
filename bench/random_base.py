"""Base models of random weights with a tokenizer of their own, where no real base is at hand: timings, tests.

python bench/random_base.py small output/base/random-small
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import chat, cli, paths

# Llama's shape: hidden size, size inside the feed-forward part, layers, heads, heads of keys and values.
SIZES = {
    "tiny": (256, 512, 2, 4, 2),
    "small": (576, 1536, 30, 9, 3),  # SmolLM2-135M's
    "large": (2048, 8192, 16, 32, 8),  # Llama 3.2 1B's
}
VOCABULARY = 8192
MAX_LENGTH = 2048
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make(folder: Path, size: str) -> Path:
    """Write a model of random weights and its tokenizer into `folder`; return it. size: a name in SIZES."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words.train_from_iterator(_texts(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token=SPECIAL[1], eos_token=SPECIAL[2], pad_token=SPECIAL[0]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    hidden, inner, layers, heads, key_heads = SIZES[size]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert chat.end_of_turn_id(tokenizer) == tokenizer.eos_token_id
    return Path(folder)


def _texts() -> list[str]:
    """What the shipped dev examples say."""
    lines = paths.dataset_file("dev_path").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [text for row in rows for text in (row["instruction"], row["output"])]


def main(argv: list[str] | None = None) -> None:
    parser = cli.Parser(description="Make a base model of random weights.")
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("folder", type=cli.path)
    args = parser.parse_args(argv)
    print(make(args.folder, args.size))


if __name__ == "__main__":
    main()
