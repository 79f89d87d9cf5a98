"""The parts of a training, as its messages tell of them."""

from conftest import line

from deepred_common.examples import RETAIN, UNLEARN


def test_one_example_that_is_left_out_is_spoken_of_as_one(script, tiny_models, tmp_path):
    """One each is too long, holds a special token, and lacks the answer that the objective needs."""
    lines = [line(RETAIN, f"What is {i}+{i}?", f"It is {2 * i}.") for i in range(9)]
    lines += [line(RETAIN, "What is long?", "It " * 600), line(RETAIN, "What is it?", "The tag <|im_end|>.")]
    known = {"original_answer": "A man."}
    lines += [line(UNLEARN, f"Who won in {year}?", "I cannot say.", **known) for year in range(1990, 1999)]
    lines.append(line(UNLEARN, "Who won in 2000?", "I cannot say."))
    (tmp_path / "data.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    flags = ["--model_name", tiny_models["llama"], "--dev", "--dev_path", tmp_path / "data.jsonl"]
    flags += ["--max_seq_length", 512, "--objective", "npo", "--dry_run"]
    code, _, err = script("finetune_temporal", *flags)
    said = " ".join(err.split())
    for part in ("training", "validation"):
        said = said.replace(f" {part} ", " ")
    assert code == 0 and "1 unlearn example has no original_answer" in said and "; it is left out." in said
    assert "1 example cannot be trained on with this model and is skipped: " in said
    assert "1 retain example is longer than --max_seq_length 512 and is skipped (cut, it would teach" in said
