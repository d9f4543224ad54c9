# Every stage by name, in the order of the work. `make demo` and `make test` do all set-up by themselves.

PYTHON ?= python3
BIN := .venv/bin
# As many processes as there are cores: with one more, a Ray that starts among two others takes longer than it gives
# itself. One thread in each, and where a test asks for more, they sleep while they wait for each other.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE KMP_BLOCKTIME=0 $(BIN)/python -m pytest --numprocesses=logical --dist=loadgroup --no-loadscope-reorder
export OMP_NUM_THREADS ?= $(shell nproc)

.PHONY: help bench bench-train bench-memory bench-serve bench-scale soak overload demo docs test test-fast test-long setup setup-dev setup-bench lint types pytest lock wheel clean

help:                 ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 16

demo: setup           ## WER before, fine-tune on Ray, WER after, serve on Ray, ask: on real speech: 9 minutes, or 20 beside other work
	@$(BIN)/whisperfleet demo

test: setup-dev lint types pytest  ## lint, types and the whole suite; offline once set up

setup: .venv/.ready   ## .venv with what running needs

setup-dev: .venv/.ready-dev  ## the same with test tools, and the weights and speech that tests use

setup-bench: .venv/.ready-bench  ## the same with what serving is compared with

lint:                 ## rules and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/deptry . --no-ansi 2> .venv/deptry.log || { cat .venv/deptry.log >&2; exit 1; }

types:                ## static types
	@$(BIN)/mypy

bench-train: setup    ## fine-tuning against the usual recipe on the same clips, one table and a JSON line; 25 minutes
	@$(BIN)/python -m benchmarks.train_recipe --save benchmarks/results/train_recipe.json

bench-memory: setup   ## the planner's memory against measured training steps, one table and a JSON line
	@$(BIN)/python -m benchmarks.memory --save benchmarks/results/memory.json

bench-serve: setup-bench  ## the endpoint against faster-whisper and others on the same clips, one table and a JSON line
	@$(BIN)/python -m benchmarks.serving --save benchmarks/results/serving.json

bench-scale: setup    ## what bounds a run and an endpoint: ten million utterances, a thousand workers; 30 minutes
	@$(BIN)/python -m benchmarks.scale --save benchmarks/results/scale.json

soak: setup-bench     ## twenty minutes of requests: errors, and memory over time
	@$(BIN)/python -m benchmarks.soak --save benchmarks/results/soak.json

overload: setup-bench ## ten times the load that can be served: health, refusals, errors
	@$(BIN)/python -m benchmarks.overload --save benchmarks/results/overload.json

bench: setup          ## LoRA steps and encoding at the clips' own length against 30 s, one table and a JSON line
	@$(BIN)/python -m benchmarks.audio_context --save benchmarks/results/audio_context.json

pytest:               ## the whole suite but `test-long`, in as many processes as there are cores
	@HF_HUB_OFFLINE=1 $(PYTEST)

test-fast: setup-dev  ## what needs no Ray and no weights: under 2 minutes
	@HF_HUB_OFFLINE=1 $(PYTEST) -m 'not (ray or weights or medium or slow or long)'  # none waits for Ray

test-long: setup-dev  ## what takes minutes a test: hours of audio, random kills, nodes cut off, a wheel with all its packages (needs the registry)
	@HF_HUB_OFFLINE=1 HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -m 'long or hypothesis'

lock: setup-dev setup-bench  ## write constraints.txt from what .venv holds, and cluster/requirements.txt, with hashes, from that
	@head -1 constraints.txt > .venv/constraints.new
	@$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' >> .venv/constraints.new
	@mv .venv/constraints.new constraints.txt
	@head -2 cluster/requirements.txt > .venv/requirements.new
	@$(BIN)/uv pip compile pyproject.toml --extra client --extra deepspeed --extra qlora --constraint constraints.txt \
		--universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet >> .venv/requirements.new
	@mv .venv/requirements.new cluster/requirements.txt

wheel: setup          ## dist/whisperfleet-VERSION.whl, for machines without this checkout
	@rm -rf build
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

docs: setup           ## write docs/tree.md and docs/configuration.md from the code
	@$(BIN)/python -m docs.generate

clean:                ## remove .venv; runs and the cache stay
	rm -rf .venv

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11: run make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { test "$$(id -u)" = 0 && apt-get update && apt-get install -y python3-venv; } || \
		{ echo "$(PYTHON) has no venv: run sudo apt-get install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.ready: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[client,deepspeed]'
	@touch $@

.venv/.ready-bench: .venv/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[client,deepspeed,bench]'
	@touch $@

.venv/.ready-dev: .venv/.ready tests/fetch.py
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[client,deepspeed,dev]'
	$(BIN)/python -m tests.fetch
	@command -v chromium chromedriver > /dev/null || if test "$$(id -u)" = 0; \
		then apt-get update -qq && apt-get install -y -qq chromium chromium-driver > /dev/null; \
		else echo "the page's tests are skipped: run sudo apt-get install chromium chromium-driver" >&2; fi
	@touch $@
