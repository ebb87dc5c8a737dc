#!/bin/sh
# Runs the criterion benches, then the server under load next to an echo server and ONNX Runtime alone.
set -eu
cd "$(dirname "$0")/.."
if ! command -v wrk >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends wrk >/dev/null
  else
    echo "bench: install this first: apt-get install wrk" >&2
    exit 1
  fi
fi
# The judge's simulation is not run here, because it takes minutes and measures no speed: run `cargo bench --bench judge`.
cargo bench --locked --bench decode --bench preprocess --bench engine -- --warm-up-time 1 --measurement-time 3
cargo build --release --locked --examples
python3 scripts/bench.py "$@"
python3 scripts/bench-protocols.py "$@"
python3 scripts/bench-rollouts.py "$@"
