#!/bin/sh
# Fuzzes the given targets, or all, for SECONDS each, with the stable compiler. Found inputs are in target/fuzz/found.
# usage: fuzz.sh SECONDS [TARGET ...]
set -eu
cd "$(dirname "$0")/.."
seconds=${1:?usage: fuzz.sh SECONDS [TARGET ...]}
shift
[ $# -gt 0 ] || set -- oip_json oip_binary bytes_tensor config_pbtxt schema_decoder onnx_file
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks"
target=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz --target "$target"
for name in "$@"; do
  mkdir -p "target/fuzz/found/$name" "tests/fuzz/corpus/$name"
  # The first directory receives new inputs. Only the seeds in the second one are in the repository.
  "target/fuzz/$target/release/$name" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="target/fuzz/found/$name/" "target/fuzz/found/$name" "tests/fuzz/corpus/$name" 2>"target/fuzz/$name.log" || { tail -40 "target/fuzz/$name.log"; exit 1; }
  echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "target/fuzz/$name.log") executions in $seconds s"
done
