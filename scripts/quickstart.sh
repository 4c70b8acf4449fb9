#!/usr/bin/env bash
# From a fresh clone to an answer: sets up .venv and asks the rendered model about the shipped sample clip.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

question="${1:-What colour is the background at 0:03?}"
say "m3video ask m3video/assets/sample.mp4 \"$question\""
.venv/bin/m3video ask m3video/assets/sample.mp4 "$question"
say "done; activate with: source .venv/bin/activate"
