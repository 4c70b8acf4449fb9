#!/usr/bin/env bash
# The accuracy tables of the README (but for saliency: eval_saliency.py) and of the model card, again, from the shipped weights: bash scripts/reproduce_claims.sh [SEED]
# (but for what single training stages reached: those were read off the training run).
# Writes runs/claims-SEED/: matrix.txt (task family x scale), the method tables of `m3video eval footage` at budgets for a whole video
# (methods.txt) and for each second of it (rates.txt) with their plots, and estimators.txt.
# The matrix takes minutes and starts over when killed; the method tables, up to two minutes a clip on one core, go on.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" plots
seed="${1:-1}"
out="runs/claims-$seed"
mkdir -p "$out"

# write NAME COMMAND...: what COMMAND prints, in NAME.txt once it is whole
write() {
  "${@:2}" | tee "$out/$1.part"
  mv "$out/$1.part" "$out/$1.txt"
}

say "task family x scale, on frames and H.264 files that no training has seen"
write matrix .venv/bin/python scripts/eval_rendered.py --seed "$seed"
say "methods at equal tokens for a whole video"
write methods .venv/bin/m3video eval footage --model rendered --seed "$seed" --plots --out "$out/footage"
say "methods at equal tokens per second of video"
write rates .venv/bin/m3video eval footage --model rendered --seed "$seed" --plots --per-second --methods adaptive,uniform,proportional,oracle,full \
  --out "$out/footage-rates"
say "estimators of what a frame needs"
write estimators .venv/bin/python scripts/eval_estimators.py --seed "$seed" --json "$out/estimators.json"
say "written to $out"
