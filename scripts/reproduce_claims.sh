#!/usr/bin/env bash
# Every accuracy figure of the README and the model card, again, from the shipped weights: bash scripts/reproduce_claims.sh [SEED]
# (but for what single training stages reached: those were read off the training run).
# Writes runs/claims-SEED/: matrix.txt (task family x scale), the method table of `m3video eval footage` with its plots, and estimators.txt.
# The matrix takes minutes and starts over when killed; the method table, up to a minute a clip on one core, goes on.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" plots
seed="${1:-1}"
out="runs/claims-$seed"
mkdir -p "$out"
say "task family x scale, on frames and H.264 files that no training has seen"
.venv/bin/python scripts/eval_bundled.py --seed "$seed" | tee "$out/matrix.part"
mv "$out/matrix.part" "$out/matrix.txt"
say "methods at equal tokens"
.venv/bin/m3video eval footage --seed "$seed" --plots --out "$out/footage" | tee "$out/methods.part"
mv "$out/methods.part" "$out/methods.txt"
say "estimators of what a frame needs"
.venv/bin/python scripts/eval_estimators.py --seed "$seed" --json "$out/estimators.json" | tee "$out/estimators.part"
mv "$out/estimators.part" "$out/estimators.txt"
say "written to $out"
