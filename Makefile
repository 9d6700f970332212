# Two commands are enough: `make lab` (the lessons in JupyterLab) and `make test`. Each builds .venv when it is not there.
# Another Python: make clean && make lab PYTHON=python3.12    More for JupyterLab: make lab ARGS="--port 9000"

PYTHON ?= python3
ifeq ($(OS),Windows_NT) # in Git Bash
BIN := .venv/Scripts
EXE := .exe
else
BIN := .venv/bin
EXE :=
endif
comma := ,
PINS := tests/pins.txt
.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE # the suite starts hundreds of processes, and each would compile the package again
.PHONY: help lab fresh test test-elsewhere test-floors check stub pyz lessons lessons-update reports-update bench clean

help:  ## this list
	@awk -F ':.*## +' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# pip is not told to be quiet, so that people see it working.
define INSTALL
@$(BIN)/python -m pip install --disable-pip-version-check -c $(PINS) -e $(1) || { \
  echo "The set-up did not finish: the lines above say why. It needs a network. Run the same command again to continue."; exit 1; }
endef

# Without a GPU, the download can be gigabytes smaller. If pip was told where to look, that choice is already made.
define HINT
@[ "$$(uname -sm)" != "Linux x86_64" ] || command -v nvidia-smi >/dev/null || [ -n "$$PIP_EXTRA_INDEX_URL$$PIP_INDEX_URL$$PIP_FIND_LINKS" ] || \
  { echo "No NVIDIA GPU here, but pip's torch comes with 4 GB of CUDA for one. To skip that: Ctrl-C, then"; \
    echo "  PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make $(MAKECMDGOALS)"; }
endef

# The stamps are in .venv, so a second run does nothing and needs no network. pip is what venv makes last, so a .venv
# without it was interrupted, and is made again.
$(BIN)/pip$(EXE):
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found. Install Python 3.10 or newer, or say which: make lab PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "$$($(PYTHON) --version) is too old; Python 3.10 or newer is needed. Say which: make lab PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "$(PYTHON) -m venv does not work here. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

.venv/lessons.stamp: pyproject.toml $(PINS) | $(BIN)/pip$(EXE)
	@echo "Setting up .venv for the lessons (once; torch is large, this takes a few minutes)"
	$(HINT)
	$(call INSTALL,'.[lessons]')
	@$(BIN)/dav2 check
	@touch $@

.venv/test.stamp: .venv/lessons.stamp
	@echo "Adding the test tools to .venv (once)"
	$(call INSTALL,'.[lessons$(comma)test]')
	@touch $@

# The oldest allowed versions, and the pins for what has no lower bound. Their wheels end with Python 3.12.
SHARED := import pathlib, sysconfig; own = pathlib.Path(sysconfig.get_path("purelib")); \
  (own / "shared.pth").write_text(str(own).replace(".venv-floors", ".venv"))
.venv-floors/test.stamp: BIN := $(subst .venv,.venv-floors,$(BIN))
.venv-floors/test.stamp: PINS := .venv-floors/constraints.txt
.venv-floors/test.stamp: pyproject.toml tests/floors.txt $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || { \
	  echo "$$($(PYTHON) --version) does not run versions this old; 3.10 to 3.12 do: make test-floors PYTHON=python3.12"; exit 1; }
	@echo "Setting up .venv-floors with the oldest versions that pyproject.toml allows (once)"
	$(HINT)
	@$(PYTHON) -m venv .venv-floors
	@$(BIN)/python -c '$(SHARED)' # what has no lower bound comes from .venv; another Python finds nothing there
	@awk -F== 'NR == FNR { floor[$$1] } NR == FNR || !($$1 in floor)' tests/floors.txt tests/pins.txt > $(PINS)
	$(call INSTALL,'.[lessons$(comma)test]')
	@touch $@

# Jupyter has to be told if root runs it, as in a container. Without a screen there is no browser to open, so the
# address is printed, with nothing but warnings. The lab's terminal is not a login shell, which would reset the PATH.
LAB_FLAGS = --log-level=WARN $(shell [ "$$(id -u)" = 0 ] && echo --allow-root) \
  $(shell [ "$$(uname)" = Linux ] && [ -z "$$DISPLAY$$WAYLAND_DISPLAY" ] && echo --no-browser) \
  $(if $(filter Windows_NT,$(OS)),,--ServerApp.terminado_settings="shell_command=['$${SHELL:-sh}']")

# JupyterLab asks new users about its news, on top of the lesson; this sets the default, which the reader can change.
.venv/share/jupyter/lab/settings/overrides.json: .venv/lessons.stamp
	@mkdir -p $(@D)
	@echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' > $@

# MSYS_NO_PATHCONV: Git Bash on Windows would take the address for one of its own paths.
# From the root of the repository, since the lessons link to docs/, which a Jupyter started in my_lessons/ cannot open.
# The PATH is for the lab's terminal and for `!dav2`.
lab: .venv/lessons.stamp .venv/share/jupyter/lab/settings/overrides.json  ## the lessons, in JupyterLab: copies to work in, in my_lessons/
	@$(BIN)/dav2 lessons
	@echo "Starting JupyterLab. If no browser opens, open the address below. Ctrl-C twice stops it."
	@PATH="$$PWD/$(BIN):$$PATH" MSYS_NO_PATHCONV=1 jupyter lab --LabApp.default_url=/lab/tree/my_lessons/00_start_here.ipynb $(LAB_FLAGS) $(ARGS)

fresh: .venv/lessons.stamp  ## clean copies of the lessons, your old ones kept beside them; one: make fresh ARGS=02
	@$(BIN)/dav2 lessons --fresh $(ARGS)

test: .venv/test.stamp  ## the whole suite, every lesson executed
	$(BIN)/python -m pytest -n 3 --dist loadgroup $(ARGS)

test-elsewhere: .venv/test.stamp  ## whatever depends on the processor, as if on four others; one: make test-elsewhere ARGS=avx2
	$(BIN)/python tests/elsewhere.py $(ARGS)

# Without a browser: nobody runs ipywidgets 7 in JupyterLab 4. It is used in Colab, which has its own page.
test-floors: .venv/test.stamp .venv-floors/test.stamp  ## the suite under the oldest versions that pyproject.toml allows (.venv-floors)
	JUPYTER_PATH="$(CURDIR)/.venv/share/jupyter" $(subst .venv,.venv-floors,$(BIN))/python -m pytest -n 2 --dist loadgroup -m 'not browser' $(ARGS)

check: .venv/test.stamp  ## style, types, the structure of the lessons, the order of the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/test.yml
	$(BIN)/python tools/lessons.py lint
	$(BIN)/python -m pytest -q tests/test_house.py

pyz: .venv/lessons.stamp  ## the command in one file, for a machine with Python and nothing else (build/dav2.pyz)
	$(BIN)/python tools/pyz.py

stub: .venv/lessons.stamp  ## rewrite dav2_utils/__init__.pyi after adding or removing a public name
	$(BIN)/python tools/stub.py

lessons: .venv/test.stamp  ## run every lesson; pages, slides, a sheet, answers and a reference go into site/
	$(BIN)/python tools/lessons.py run $(ARGS)

lessons-update: .venv/test.stamp  ## run every lesson and store it with its new outputs
	$(BIN)/python tools/lessons.py update $(ARGS)

reports-update: .venv/test.stamp  ## store the reports and docs/causes.md again, as the tests expect them (then read the diff)
	$(BIN)/python tests/diagnosis/test_reports.py
	$(BIN)/python tools/causes.py

bench: .venv/test.stamp  ## every goal beside its measured figure, in one table (7 GB in build/, several minutes)
	$(BIN)/python benchmarks $(ARGS)

clean:  ## delete what was built, the environment included, but not my_lessons
	rm -rf .venv .venv-floors build site .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
