# `make serve` and `make test` need no other set-up. `make help` lists all commands.
.DEFAULT_GOAL := help
.PHONY: help serve build test test-system demo bench image models onnxruntime

# Disables the telemetry of ONNX Runtime. It must be set before the library is loaded.
export ORT_DISABLE_TELEMETRY = 1
CARGO ?= cargo
PREDICTD := target/release/predictd
COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
export PREDICTD_COMMIT := $(if $(COMMIT),$(COMMIT),unknown)

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

serve: build ## build and serve the packages in models/ on 127.0.0.1:8080
	$(PREDICTD) serve

build: onnxruntime ## build the release binary target/release/predictd
	$(CARGO) build --release --locked

test: onnxruntime ## run format, lints, all tests, and the load gate on all packages; needs no root
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings
	$(CARGO) test --locked
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --quiet
	$(CARGO) run --quiet --locked -- verify models tests/fixtures/models

test-system: build ## test with promtool, an OpenAPI validator, a browser and real clients; as root, installs them
	scripts/test-system.sh

demo: build ## run example rollouts on a real server: promoted, paused, aborted, rolled back (docs/rollouts.md)
	python3 scripts/demo.py

bench: build ## run the criterion benches, then the server under load next to an echo server and ONNX Runtime alone
	scripts/bench.sh

image: ## build the container image
	docker build --tag predictd .

models: build ## train and pack the sample models again
	scripts/train-models.sh

onnxruntime: ## download the ONNX Runtime library, pinned by version and hash
	@scripts/fetch-onnxruntime.sh
