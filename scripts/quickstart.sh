#!/usr/bin/env bash
# From a fresh clone to a GGUF file: sets up .venv, then runs the four scripts on the embedded small model.
# Run it again at any time: finished steps are skipped, an interrupted training is resumed.
#
#   scripts/quickstart.sh                the whole pipeline (15 to 30 minutes on two CPU cores)
#   scripts/quickstart.sh --setup-only   only .venv and what is installed in it
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh

case $# in
  0) ;;
  1) [ "$1" = --setup-only ] || die "unknown argument $1; the only one is --setup-only" ;;
  *) die "too many arguments; the only one is --setup-only" ;;
esac

# Print a command as the user could type it, then run it.
run() { printf '\n$ %s\n' "${*//$VENV\/bin\//}"; "$@"; }

STAGES=()
stage_started=$SECONDS
stage() { STAGES+=("$(printf '%-28s %4d s' "$1" $((SECONDS - stage_started)))"); stage_started=$SECONDS; }

say "Set-up"
set_up_venv
stage "set-up"
[ $# -eq 0 ] || exit 0

# ---- the pipeline ----

export PATH="$PWD/$VENV/bin:$PATH"
PY=$VENV/bin/python
BASE=output/base/SmolLM2-135M-Instruct
OUT=output/quickstart
RUN=$OUT/run
MERGED=$OUT/merged
GGUF=$OUT/temporal.gguf
NAME=temporal/temporal
mkdir -p $OUT

# fresh TARGET SOURCE: TARGET exists and is not older than what it was made from.
fresh() { [ -e "$1" ] && [ ! "$2" -nt "$1" ] && echo "$1 exists; skipped"; }

# The same for results. They must also be complete, of this schema, and of these validation examples.
fresh_results() {
  [ ! -e "${1%.json}.replies.jsonl" ] && grep -q '"schema": 2' "$1" 2>/dev/null && [ ! datasets/retain/retain_val.jsonl -nt "$1" ] &&
    [ ! datasets/unlearn/unlearn_val.jsonl -nt "$1" ] && fresh "$1" "$2"
}

say "The base model"
[ -e $BASE/config.json ] && echo "$BASE exists; skipped" || run $PY -m deepred_common.models.embedded_base
stage "base model"

say "1. Fine-tune"
run $PY scripts/finetune_temporal.py --dev --model_name $BASE --output_dir $RUN --resume_latest \
  --epochs 4 --learning_rate 6e-4 --batch_size 8 --gradient_accumulation_steps 1 --save_steps 50
stage "fine-tune"

say "2. Merge"
fresh $MERGED/config.json $RUN/final/adapter_model.safetensors ||
  run $PY scripts/merge_lora.py --base_model $BASE --lora_path $RUN/final --output_path $MERGED --verify --overwrite
stage "merge"

# 8 bits: the default, q4_k_m, costs this small model 10 points of what it kept.
say "3. Convert to GGUF"
fresh $GGUF $MERGED/config.json ||
  run $PY scripts/convert_to_gguf.py --model_path $MERGED --output_path $GGUF --quant_type q8_0 --yes --overwrite
stage "llama.cpp and GGUF"

say "4. Evaluate on the validation examples: untouched base, merged model, and the GGUF through a server"
fresh_results $OUT/base.json $BASE/config.json ||
  run $PY scripts/evaluate_temporal.py --model_path $BASE --max_tokens 64 --output $OUT/base.json --overwrite --resume
stage "evaluate the base"
fresh_results $OUT/merged.json $MERGED/config.json ||
  run $PY scripts/evaluate_temporal.py --model_path $MERGED --max_tokens 64 --output $OUT/merged.json --baseline $OUT/base.json --overwrite --resume
stage "evaluate the merged model"
if ! fresh_results $OUT/gguf.json $GGUF; then
  if ! $PY -c 'import xllamacpp' 2>/dev/null && ! [ -x llama.cpp/build/bin/llama-server ] && ! command -v llama-server >/dev/null; then
    run $PY -c "from deepred_common.export import llama_cpp; llama_cpp.build('llama.cpp', 'llama-server', '$OUT/llama-server.log')"
  fi
  PORT=$($PY -c 'from deepred_common.inference.llama_server import free_port; print(free_port())')
  printf '\n$ python -m deepred_common.inference.llama_server %s --port %s --alias %s &\n' $GGUF "$PORT" $NAME
  $PY -m deepred_common.inference.llama_server $GGUF --port "$PORT" --alias $NAME > $OUT/server.log 2>&1 &
  SERVER=$!
  trap 'kill $SERVER 2>/dev/null || true' EXIT
  until (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; do
    kill -0 $SERVER 2>/dev/null || { tail -3 $OUT/server.log >&2; die "the server did not start; see $OUT/server.log"; }
    sleep 0.2
  done
  run $PY scripts/evaluate_temporal.py --use_lmstudio --lmstudio_url "http://127.0.0.1:$PORT/v1" --lmstudio_model $NAME \
    --max_tokens 64 --output $OUT/gguf.json --baseline $OUT/base.json --report $OUT/gguf.html --overwrite --resume
  kill $SERVER || true; trap - EXIT
fi
stage "evaluate the GGUF"

# ---- the results ----

say "Done"
$PY - $OUT <<'PYTHON'
import sys
from pathlib import Path
from deepred_common import paths
from deepred_common.evaluation import results_file

out = Path(sys.argv[1])
results = {name: results_file.read(out / f"{name}.json") for name in ("base", "merged", "gguf")}
summaries = {name: one["summary"] for name, one in results.items()}
print(f"{'On the validation examples':<46}{'base':>8}{'merged':>8}{'GGUF':>8}")
for key, label in (("unlearn_success_rate", "after the cutoff, refused"), ("false_refusal_rate", "before the cutoff, refused (should be 0)"),
                   ("retain_accuracy", "before the cutoff, answered correctly")):
    print(f"  {label:<44}" + "".join(f"{summaries[name][key]:>7.1f}%" for name in summaries))
kept = {name: results[name]["baselines"][0]["against"]["retention"] for name in ("merged", "gguf")}
print(f"  {'of what the base knew, still correct':<44}{'':>8}" + "".join(
    f"{100 * k['count'] / max(1, k['known']):>7.1f}%" for k in kept.values()))
folder = paths.lmstudio_models_dir() / "local" / "temporal"
print(f"""
  adapter       {out}/run/final
  merged model  {out}/merged
  GGUF          {out}/temporal.gguf
  results       {out}/base.json, merged.json, gguf.json
  report        {out}/gguf.html (open it in a browser)

To chat with it in LM Studio:
  mkdir -p {folder} && cp {out}/temporal.gguf {folder}/
  lms load "temporal/temporal"
Or serve it here, without LM Studio (OpenAI-compatible, port 1234):
  .venv/bin/python -m deepred_common.inference.llama_server {out}/temporal.gguf""")
PYTHON
printf '\nTime per stage:\n'; printf '  %s\n' "${STAGES[@]}"; printf '  %-28s %4d s\n' "in all" $SECONDS
