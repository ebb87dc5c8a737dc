#!/bin/sh
# Runs the tests that need more tools: promtool, strace, a browser, npm, and Python clients in their own virtual environments.
# As root on Debian it installs missing tools; otherwise it lists them.
set -eu
cd "$(dirname "$0")/.."

missing=
for pair in promtool:prometheus strace:strace chromium:chromium npm:npm; do
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

# Licences, banned crates and sources. A debug build of the checker takes a minute; a release build would take several.
deny=.venv/cargo-deny
deny_version=0.20.2
if [ "$("$deny/bin/cargo-deny" --version 2>/dev/null)" != "cargo-deny $deny_version" ]; then
  CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --debug --locked --root "$deny" --version "$deny_version" cargo-deny
fi
"$deny/bin/cargo-deny" --log-level error check licenses bans sources

# environment NAME LIST: creates a virtual environment for a list of requirements, again if the list has changed. Prints its Python.
environment() {
  venv=.venv/$1
  list=tests/system/$2
  want=$(sha256sum "$list" | cut -d' ' -f1)
  if [ "$(cat "$venv/requirements.sha256" 2>/dev/null)" != "$want" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check --no-compile --require-hashes --only-binary=:all: -r "$list" >&2
    echo "$want" > "$venv/requirements.sha256"
  fi
  echo "$venv/bin/python"
}

python=$(environment system requirements.txt)
"$python" tests/system/check.py "$@"
# The real clients have their own environment, because some need other versions of the same libraries.
python=$(environment clients requirements-clients.txt)
"$python" tests/system/clients.py
# The console's types of the admin API must be those of the committed OpenAPI document.
npm --prefix console ci --silent --no-audit --no-fund
(cd console && node_modules/.bin/openapi-typescript admin-api.json --output node_modules/admin-api.d.ts >/dev/null)
cmp console/node_modules/admin-api.d.ts console/admin-api.d.ts || {
  echo "test-system: console/admin-api.d.ts is outdated; run 'npm run types' in console/" >&2
  exit 1
}
echo "openapi-typescript: console/admin-api.d.ts is current"
