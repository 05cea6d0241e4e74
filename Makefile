# slakit: make setup | demo | check | test | test-all | fuzz | rehearsal | fire | notebooks | bench | clean      (Linux, macOS, WSL; README has the raw commands)
PYTHON ?= python3
VENV   ?= .venv
# The torch to install, e.g. TORCH="torch==2.11.*". Without an NVIDIA driver the CPU build (200 MB, not 5 GB) is taken.
TORCH  ?= torch>=2.6
# Test processes at a time, each with one thread.
JOBS   ?= 2
CPU_INDEX ?= https://download.pytorch.org/whl/cpu
CPU_BUILD = ! command -v nvidia-smi >/dev/null 2>&1 && \
  $(PYTHON) -c 'import sys, urllib.request as web; web.urlopen(sys.argv[1], timeout=10)' $(CPU_INDEX)/torch/ 2>/dev/null
BIN    := $(VENV)/bin
RUN    := $(BIN)/python
UV     := $(shell command -v uv 2>/dev/null)
ifeq ($(UV),)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
MAKE_VENV = $(PYTHON) -m venv $(VENV)
else
PIP := $(UV) pip install --quiet --python $(BIN)/python
MAKE_VENV = $(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
endif

.PHONY: setup demo check test test-units test-notebooks test-all fuzz rehearsal fire notebooks bench clean
.DELETE_ON_ERROR:

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "slakit needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make setup PYTHON=python3.12"; exit 1; }
	@echo "Setting up $(VENV) (once; 1-5 minutes, most of it torch)"
	@test -x $(BIN)/python || $(MAKE_VENV)
	@$(RUN) -c 'import torch, torchvision' 2>/dev/null || echo "  1 of 3: torch, 200 MB (with an NVIDIA driver 5 GB)"
	@$(RUN) -c 'import torch, torchvision' 2>/dev/null || \
	  { $(CPU_BUILD) && $(PIP) "$(TORCH)" torchvision --index-url $(CPU_INDEX); } || \
	  $(PIP) "$(TORCH)" torchvision
	@echo "  2 of 3: slakit with JupyterLab and what the tests need"
	@$(PIP) -e ".[notebooks,test,browser]"
	@echo "  3 of 3: the beam search is compiled"
	@$(RUN) -c 'import torch; from slakit.decoding import beam_search; beam_search(torch.zeros(1, 9, 32).log_softmax(-1))'
	@touch $@

demo: setup
	@$(RUN) -m slakit demo

# Style, types, and the example on every room's first screen.
check: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	@if $(BIN)/pyright --version >/dev/null 2>&1; then \
	  echo "$(BIN)/pyright"; $(BIN)/pyright --pythonpath $(RUN); \
	else \
	  echo "not checked: types; pyright runs on Node.js, which is neither here nor could be fetched"; \
	fi
	OMP_NUM_THREADS=1 SLAKIT_PROGRESS=0 $(RUN) -m pytest --doctest-modules -q slakit/__init__.py \
	  slakit/*/__init__.py slakit/*/*/__init__.py

TIER = not slow and not thorough
# Notebooks whose stored outputs are compared day by day; every one is also run by tests/test_notebooks.py.
STORED = notebooks/0[012349]_*.ipynb notebooks/1[01]_*.ipynb
test: check test-units test-notebooks

test-units: setup
	OMP_NUM_THREADS=1 $(RUN) -m pytest tests -q -m "$(TIER)" -n $(JOBS) --dist loadfile \
	  --ignore tests/test_browser.py --ignore tests/test_notebooks.py

test-notebooks: setup
	OMP_NUM_THREADS=1 $(RUN) -m pytest tests/test_notebooks.py -q -m "$(TIER)" -n $(JOBS) --dist loadgroup
	OMP_NUM_THREADS=1 SLAKIT_PROGRESS=0 $(RUN) -m pytest --nbval --nbval-current-env --nbval-cell-timeout=300 \
	  --nbval-sanitize-with tests/sanitize.cfg -p tests.ipc_kernels -n $(JOBS) --dist loadfile -p no:randomly -q $(STORED)

# And what takes longer than it tells day by day: kills, clusters, second runs and stored outputs of
# every notebook, a real browser.
test-all: TIER = not slow
test-all: STORED = notebooks
test-all: test
	$(RUN) -m pytest tests/test_browser.py -q

# Every command on corpora of real frame size in the official trees; one GPU: make rehearsal SIZE=full DEVICE=cuda
SIZE   ?= small
DEVICE ?= cpu
rehearsal: setup
	$(RUN) -m tests.rehearsal --size $(SIZE) --device $(DEVICE) --jobs $(JOBS)

# A night of kills and of full disks; DEATHS=20 takes minutes.
DEATHS ?= 1000
FIRE   ?= $(CURDIR)/papermill_runs/out/fire
fire: setup
	OMP_NUM_THREADS=1 nice $(RUN) tests/survival_night.py kills $(FIRE)/kills 0 $(DEATHS)
	OMP_NUM_THREADS=1 nice $(RUN) tests/survival_night.py disks $(FIRE)/disks
	OMP_NUM_THREADS=1 nice $(RUN) tests/survival_night.py memory 10000

# Damaged files over every reader, e.g. make fuzz MINUTES=60; inputs that end raw or hung are kept in fuzz/.
MINUTES ?= 5
fuzz: setup
	OMP_NUM_THREADS=1 SLAKIT_PROGRESS=0 $(RUN) -u tests/fuzz/long_run.py --minutes $(MINUTES)

notebooks: setup
	@for notebook in notebooks/[0-9s]*.ipynb; do \
	  echo "$$notebook"; \
	  (cd notebooks && ../$(RUN) -m jupyter nbconvert --to notebook --execute --inplace --log-level=WARN "$$(basename $$notebook)") || exit 1; \
	done
	@$(RUN) tests/clean_notebooks.py notebooks/[0-9s]*.ipynb

bench: setup
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(RUN) $$script || exit 1; done

clean:
	rm -rf $(VENV) data/minisign data/cache papermill_runs/out .pytest_cache .ruff_cache
