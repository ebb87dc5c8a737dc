# Two commands do all the set-up: `make serve` runs the server, `make test` passes the tests. `make help` lists the rest.
.DEFAULT_GOAL := help
.PHONY: help serve build test test-system demo bench image models onnxruntime

# The vendor's telemetry in ONNX Runtime is on unless this is set before the library is loaded.
export ORT_DISABLE_TELEMETRY = 1
CARGO ?= cargo
PREDICTD := target/release/predictd
COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
export PREDICTD_COMMIT := $(if $(COMMIT),$(COMMIT),unknown)

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

serve: build ## build and serve the packages in models/ on 127.0.0.1:8080
	$(PREDICTD) serve

build: onnxruntime ## the release binary at target/release/predictd
	$(CARGO) build --release --locked

test: onnxruntime ## format, lints, every test, and the golden check of all packages; needs no root
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings
	$(CARGO) test --locked
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --quiet
	$(CARGO) run --quiet --locked -- verify models tests/fixtures/models

test-system: build ## checks with promtool, an OpenAPI validator, a browser; installs them where it may
	scripts/test-system.sh

demo: build ## run example rollouts on a real server: promoted, paused, aborted, rolled back (docs/rollouts.md)
	python3 scripts/demo.py

bench: build ## criterion benches, then the server under load beside a bare echo and the raw runtime
	scripts/bench.sh

image: ## the container image
	docker build --tag predictd .

models: build ## train the sample packages again
	scripts/train-models.sh

onnxruntime: ## bring the ONNX Runtime library, pinned by version and hash
	@scripts/fetch-onnxruntime.sh
