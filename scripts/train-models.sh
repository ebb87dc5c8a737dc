#!/bin/sh
# Trains the sample models, exports them as packages, and packs them. Needs Python 3.11 or later; takes a few minutes.
set -eu
cd "$(dirname "$0")/.."
venv=.venv/training
want=$(sha256sum training/requirements.txt | cut -d' ' -f1)
if [ "$(cat "$venv/requirements.sha256" 2>/dev/null)" != "$want" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check --require-hashes --only-binary=:all: -r training/requirements.txt
  echo "$want" > "$venv/requirements.sha256"
fi
python="$venv/bin/python"
"$python" training/churn/make_data.py
for model in churn diabetes digits; do
  "$python" "training/$model/train.py"
done
"$python" training/export.py
scripts/pack-models.sh
"$python" training/check.py
