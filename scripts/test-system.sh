#!/bin/sh
# Checks that need more than the prerequisites: promtool, strace, a browser, Python clients in an environment of their own.
# As root on Debian it installs what is missing; otherwise it says what to install.
set -eu
cd "$(dirname "$0")/.."

missing=
for pair in promtool:prometheus strace:strace chromium:chromium; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null
  else
    echo "test-system: install these first: apt-get install$missing" >&2
    exit 1
  fi
fi

venv=.venv/system
want=$(sha256sum tests/system/requirements.txt | cut -d' ' -f1)
if [ "$(cat "$venv/requirements.sha256" 2>/dev/null)" != "$want" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check --require-hashes --only-binary=:all: -r tests/system/requirements.txt
  echo "$want" > "$venv/requirements.sha256"
fi
exec "$venv/bin/python" tests/system/check.py "$@"
