#!/bin/sh
# Writes the manifests of the sample packages.
set -eu
cd "$(dirname "$0")/.."
for directory in models/*/* tests/fixtures/models/*/*; do
  case $directory in
    *churn*) data="synthetic, training/churn/make_data.py" ;;
    *diabetes*) data="scikit-learn load_diabetes" ;;
    *) data="scikit-learn load_digits" ;;
  esac
  target/release/predictd pack "$directory" --source "training/ of this repository" --training-data "$data" --licence Apache-2.0
done
