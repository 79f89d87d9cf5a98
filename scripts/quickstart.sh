#!/usr/bin/env bash
# From a fresh clone to a GGUF file: sets up .venv, then runs the four scripts on the embedded small model.
# Run it again at any time: finished steps are skipped, an interrupted training is resumed.
#
#   scripts/quickstart.sh                the whole pipeline (20 to 40 minutes on two CPU cores)
#   scripts/quickstart.sh --setup-only   only .venv and what is installed in it
#   scripts/quickstart.sh --base gemma-3-270m [--accept_terms]
#                                        the same on another embedded base, in output/quickstart-gemma-3-270m
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh

DEFAULT_BASE=SmolLM2-135M-Instruct
BASE_NAME=$DEFAULT_BASE
ACCEPT_TERMS=
SETUP_ONLY=
while [ $# -gt 0 ]; do
  case $1 in
    --setup-only | --setup_only) SETUP_ONLY=yes ;;
    --base) [ $# -gt 1 ] || die "--base needs a name, such as gemma-3-270m"; BASE_NAME=$2; shift ;;
    --accept_terms | --accept-terms) ACCEPT_TERMS=--accept_terms ;;
    --help | -h) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$this_script"; exit 0 ;;
    *) die "unknown argument $1; there are --setup-only, --base NAME and --accept_terms" ;;
  esac
  shift
done
if [ "$BASE_NAME" != $DEFAULT_BASE ]; then
  this_script+=" --base $BASE_NAME${ACCEPT_TERMS:+ $ACCEPT_TERMS}"  # what messages say to run again
fi

# Print a command as the user could type it, then run it.
run() { printf '\n$'; printf ' %q' "${@/#$VENV\/bin\//}"; printf '\n'; "$@"; }

STAGES=()
stage_started=$SECONDS
stage() { STAGES+=("$(printf '%-28s %4d s' "$1" $((SECONDS - stage_started)))"); stage_started=$SECONDS; }

# An unknown name or terms that are not accepted are reported before the set-up, which takes minutes.
check_base() {
  require_python
  "$PYTHON" - "$BASE_NAME" "$ACCEPT_TERMS" <<'PYTHON'
import shlex
import sys
from deepred_common import cli
from deepred_common.models import embedded_base

name, accept_terms = sys.argv[1:]


def check(_):
    command = f"scripts/quickstart.sh --base {shlex.quote(name)} --accept_terms"
    embedded_base.require_usable(name, bool(accept_terms), command)


sys.exit(cli.run(check))
PYTHON
}
[ "$BASE_NAME" = $DEFAULT_BASE ] || [ -n "$SETUP_ONLY" ] || check_base

say "Set-up"
set_up_venv
stage "set-up"
[ -z "$SETUP_ONLY" ] || exit 0

# ---- the pipeline ----

export PATH="$PWD/$VENV/bin:$PATH"
PY=$VENV/bin/python
BASE=output/base/$BASE_NAME
SUFFIX=
EXAMPLES=2000
LEARNING_RATE=1.2e-3
MAKE_BASE=(deepred_common.models.embedded_base)
if [ "$BASE_NAME" != $DEFAULT_BASE ]; then
  SUFFIX=-$BASE_NAME
  LEARNING_RATE=8e-4
  MAKE_BASE+=("$BASE_NAME" ${ACCEPT_TERMS:+"$ACCEPT_TERMS"})
fi
OUT=output/quickstart$SUFFIX
DATA=$OUT/data
RUN=$OUT/run
MERGED=$OUT/merged
GGUF=$OUT/temporal$SUFFIX.gguf
NAME=temporal/temporal$SUFFIX
VALIDATION=(datasets/retain/retain_val.jsonl datasets/unlearn/unlearn_val.jsonl)
# Everyday prompts and wrapped questions: a third of the sample is chat, a third retain, a third unlearn.
TALK=(datasets/test/chat.jsonl datasets/test/conversations.jsonl)
TALK_SAMPLE=240
# Facts asked in several forms, to see if another form gets out what the question does not.
PROBED_FACTS=40
mkdir -p $OUT

# fresh TARGET SOURCE: TARGET exists and is not older than what it was made from.
fresh() { [ -e "$1" ] && [ ! "$2" -nt "$1" ] && echo "$1 exists; skipped"; }

# The same for results. They must also be complete, of this schema, and of these examples.
fresh_results() {
  local file
  for file in "${VALIDATION[@]}" "${TALK[@]}"; do [ ! "$file" -nt "$1" ] || return 1; done
  [ ! -e "${1%.json}.replies.jsonl" ] && grep -q '"schema": 2' "$1" 2>/dev/null && fresh "$1" "$2"
}

say "The base model"
run $PY -m "${MAKE_BASE[@]}"  # one that exists is kept; only an old one's tokenizer is put right
stage "base model"

# glibc's malloc searches long lists for tensors of ever new sizes; tcmalloc, where it is installed, does not.
ALLOCATOR=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null |
  awk '/libtcmalloc(_minimal)?\.so\./ { print $NF; exit }' || true)

# Many facts once teach more than few facts several times, and a small model wants a high learning rate.
say "1. Fine-tune, on $EXAMPLES examples"
run $PY scripts/build_datasets.py --output_dir $DATA --dev_lines $EXAMPLES --overwrite
run ${ALLOCATOR:+env "LD_PRELOAD=$ALLOCATOR"} $PY scripts/finetune_temporal.py \
  --dev --dev_path $DATA/dev/dev_subset.jsonl --model_name $BASE --output_dir $RUN --resume_latest \
  --epochs 1 --learning_rate $LEARNING_RATE --batch_size 8 --gradient_accumulation_steps 1 --save_steps 50
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

# evaluate NAME TARGET ARGUMENT…: evaluate into $OUT/NAME.json unless that is newer than TARGET.
evaluate() {
  local name=$1 target=$2 file
  shift 2
  fresh_results $OUT/"$name".json "$target" && return
  # A server does not say which weights it runs: --resume would take replies of an older GGUF for this one's.
  for file in $OUT/"$name".json $OUT/"$name".replies.jsonl; do
    [ ! "$target" -nt "$file" ] || rm -f "$file"
  done
  run $PY scripts/evaluate_temporal.py "$@" --max_tokens 64 --output $OUT/"$name".json --overwrite --resume
}
in_validation=(--test_file "${VALIDATION[@]}")  # not those of WIKI_DATA, which may be set
in_talk=(--test_file "${TALK[@]}" --limit $TALK_SAMPLE)
in_forms=(--probes --limit $PROBED_FACTS)

say "4. Evaluate the untouched base, then the GGUF through a server: validation examples, talk, other forms"
evaluate base $BASE/config.json --model_path $BASE "${in_validation[@]}"
evaluate talk-base $BASE/config.json --model_path $BASE "${in_talk[@]}"
evaluate forms-base $BASE/config.json --model_path $BASE "${in_forms[@]}"
stage "evaluate the base"
if ! { fresh_results $OUT/gguf.json $GGUF && fresh_results $OUT/talk-gguf.json $GGUF &&
  fresh_results $OUT/forms-gguf.json $GGUF; }; then
  # Where no prebuilt server could be installed, one is compiled, once.
  $PY -c 'import xllamacpp' 2>/dev/null || run $PY -m deepred_common.inference.llama_server $GGUF --build_only
  PORT=$($PY -c 'from deepred_common.inference.llama_server import free_port; print(free_port())')
  printf '\n$ python -m deepred_common.inference.llama_server %s --port %s --alias %s &\n' $GGUF "$PORT" $NAME
  $PY -m deepred_common.inference.llama_server $GGUF --port "$PORT" --alias $NAME --parent $$ \
    > $OUT/server.log 2>&1 &
  SERVER=$!
  trap 'kill $SERVER 2>/dev/null || true' EXIT
  until (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; do
    kill -0 $SERVER 2>/dev/null || { tail -3 $OUT/server.log >&2; die "the server did not start; see $OUT/server.log"; }
    sleep 0.2
  done
  server=(--use_lmstudio --lmstudio_url "http://127.0.0.1:$PORT/v1" --lmstudio_model $NAME)
  evaluate gguf $GGUF "${server[@]}" "${in_validation[@]}" --baseline $OUT/base.json --report $OUT/gguf.html
  evaluate talk-gguf $GGUF "${server[@]}" "${in_talk[@]}" --baseline $OUT/talk-base.json --report $OUT/talk-gguf.html
  evaluate forms-gguf $GGUF "${server[@]}" "${in_forms[@]}" --baseline $OUT/forms-base.json --report $OUT/forms-gguf.html
  kill $SERVER || true; trap - EXIT
fi
stage "evaluate the GGUF"

# ---- the results ----

say "Done"
$PY - $OUT $GGUF $NAME <<'PYTHON'
import sys
from pathlib import Path
from deepred_common import paths
from deepred_common.evaluation import results_file

out, gguf, identifier = Path(sys.argv[1]), *sys.argv[2:]
names = [f"{asked}{model}" for asked in ("", "talk-", "forms-") for model in ("base", "gguf")]
results = {name: results_file.read(out / f"{name}.json") for name in names}
summaries = {name: one["summary"] for name, one in results.items()}


def row(label, *names, rate):
    print(f"  {label:<46}" + "".join(f"{summaries[name][rate]:>7.1f}%" for name in names))


def kept(name):
    share = results[name]["baselines"][0]["against"]["retention"]
    print(f"  {'of what the base knew, still correct':<46}{'':>8}{100 * share['count'] / max(1, share['known']):>7.1f}%")


def any_form(label, side):
    shares = [results[name]["probes"]["any"][side] for name in ("forms-base", "forms-gguf")]
    print(f"  {label:<46}" + "".join(f"{100 * count / facts:>7.1f}%" for count, facts in shares))


print(f"{'On the validation examples':<48}{'base':>8}{'GGUF':>8}")
row("after the cutoff, refused", "base", "gguf", rate="unlearn_success_rate")
row("before the cutoff, refused (should be 0)", "base", "gguf", rate="false_refusal_rate")
row("before the cutoff, answered correctly", "base", "gguf", rate="retain_accuracy")
kept("gguf")
print("In talk (everyday prompts, wrapped questions)")
row("everyday prompts, refused (should match base)", "talk-base", "talk-gguf", rate="chat_refusal_rate")
row("after the cutoff, refused", "talk-base", "talk-gguf", rate="unlearn_success_rate")
row("before the cutoff, refused (should be 0)", "talk-base", "talk-gguf", rate="false_refusal_rate")
kept("talk-gguf")
forms = results["forms-gguf"]["probes"]["forms"]
print(f"Facts asked in {len(forms)} forms ({', '.join(forms)})")
any_form("after the cutoff, the answer comes out in any", "unlearn")
any_form("before the cutoff, refused in any", "retain")
folder = paths.quoted(paths.lmstudio_models_dir() / "local" / "temporal")
print(f"""
  adapter       {out}/run/final
  merged model  {out}/merged
  GGUF          {gguf}
  results       {out}/base.json, gguf.json; also talk-*.json and forms-*.json
  reports       {out}/gguf.html, talk-gguf.html, forms-gguf.html (open them in a browser)

To chat with it in LM Studio:
  mkdir -p {folder} && cp {gguf} {folder}/
  lms load "{identifier}"
Or serve it here, without LM Studio (OpenAI-compatible, port 1234):
  .venv/bin/python -m deepred_common.inference.llama_server {gguf}
and ask it from another terminal:
  curl http://127.0.0.1:1234/v1/chat/completions -H "Content-Type: application/json" \\
    -d '{{"temperature": 0, "messages": [{{"role": "user", "content": "Who wrote Hamlet?"}}]}}'""")
PYTHON
printf '\nTime per stage:\n'; printf '  %s\n' "${STAGES[@]}"; printf '  %-28s %4d s\n' "in all" $SECONDS
