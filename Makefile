# Every target installs what it needs first: Debian packages that are missing (said before it is done) and .venv.
# KUBERNETES=older, given to what needs a cluster: the release in tests/cluster/older instead of the newest.
.DEFAULT_GOAL := help
.PHONY: help demo test test-cluster cluster lint format bench clean

PY := .venv/bin/python

help: ## show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: ## a process in a real pod crashes, and kubectl fetches its core (root)
	@tools/install demo
	@$(PY) -m demo

test: ## unit and integration tests; without root those that need none
	@tools/install test
	$(PY) -m pytest $(ARGS)

test-cluster: ## the same behind a real kube-apiserver, with real kubelet, HAProxy and kubectl (root)
	@tools/install cluster
	@tools/kubernetes >/dev/null
	$(PY) -m pytest tests/cluster $(ARGS)

cluster: ## a cluster to play with, the product installed; prints how to use and to end it (root)
	@tools/install cluster
	@tools/kubernetes >/dev/null
	@$(PY) -m testbed.cluster

lint: ## ruff and strict mypy
	@tools/install lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: ## let ruff format and sort
	@tools/install lint
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

bench: ## measures beside their baselines, into build/bench.json (root)
	@tools/install bench
	$(PY) -m benchmarks

clean: ## remove what was built here, but not the cache in ~/.cache/coredump-guard
	rm -rf build .venv .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
