# make demo   from nothing to pictures: .venv, the compiled extension, `polarity demo`
# make test   the whole test suite
# Needs Python 3.11 or newer and a C++ compiler; CMake, ninja and all else come from PyPI.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
SOURCES := setup.py CMakeLists.txt pyproject.toml $(shell find csrc -type f)

.PHONY: demo test test-compat bench lint format clean

demo: $(VENV)/.installed-demo
	$(VENV)/bin/polarity demo

test: $(VENV)/.installed-dev
	$(RUN) -m pytest -n auto --maxprocesses 8 --dist loadgroup --durations 25

# One build, run under the oldest and the newest torch (several GB of downloads).
test-compat: $(VENV)/.installed-dev
	tests/packaging/compat.sh $(RUN)

bench: $(VENV)/.installed-dev
	$(RUN) -m benchmarks.kernels

lint: $(VENV)/.installed-dev
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	$(RUN) .ci/tidy.py
	$(VENV)/bin/clang-format --dry-run -Werror $$(find csrc tests/emulator benchmarks -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

format: $(VENV)/.installed-dev
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format
	$(VENV)/bin/clang-format -i $$(find csrc tests/emulator benchmarks -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

clean:
	rm -rf build dist *.egg-info python/*.egg-info polarity_ext/_C*.so .mypy_cache .ruff_cache .pytest_cache
	rm -f $(VENV)/.installed-*

# The environment is kept and brought up to date; the build requirements are those of pyproject.toml,
# so that no second torch is downloaded for an isolated build.
$(VENV)/.installed-%: $(SOURCES) | $(RUN)
	$(RUN) -m pip install --upgrade pip
	$(RUN) -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], sep='\n')" \
	  > $(VENV)/build-requirements.txt
	$(RUN) -m pip install -r $(VENV)/build-requirements.txt
	$(RUN) -m pip install --no-build-isolation -e '.[$*]'
	touch $@

$(RUN):
	@$(PYTHON) -c "import sys; sys.exit(None if sys.version_info >= (3, 11) else 'Python 3.11 or newer is needed, this is ' + sys.version.split()[0] + '; choose one: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)
