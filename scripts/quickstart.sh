#!/usr/bin/env bash
# From a fresh clone to answers: sets up .venv, then asks about the two shipped clips, a natural and a rendered one.
# Usage: bash scripts/quickstart.sh [QUESTION about the natural clip]
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

ask() {
  say "m3video ask$(printf ' %q' "$@")"
  .venv/bin/m3video ask "$@"
}

ask m3video/assets/natural.mp4 "${1:-What animal is this?}" --model small ||
  say "without the model for natural video this clip has no answer; what is missing is in the line above"
ask m3video/assets/sample.mp4 "What colour is the background at 0:03?" --model rendered
say "done; activate with: source .venv/bin/activate"
