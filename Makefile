# Everything sets up what it needs by itself; a second call finds it there.
#   make demo       train, quantize, export, simulate and report, in the folder demo/
#   make test       lint, types and tests; with a Python 3.10 also the Lava environment
#   make test-slow  the tests that take more than a minute
#   make docs       the pages of docs/ and the API reference, in the folder site/
#   make mutants    whether the tests notice a change of one thing; MODULE=hardware/bounds.py for one module
#   make lava       the Lava environment alone
#   make clean      remove both environments, the demo and all caches

SHELL := /usr/bin/env bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo test test-slow docs mutants lava clean

TOOLS := .venv
LAVA := .venv-lava
DSR := ../$(TOOLS)/bin/dsr-deploy
INSTALL := -m pip install --quiet --disable-pip-version-check

# PyTorch's own index of wheels without CUDA, for Linux machines without an NVIDIA GPU: 4 GB less.
# `make demo TORCH_CPU=` takes the usual wheels.
TORCH_CPU := https://download.pytorch.org/whl/cpu

demo: $(TOOLS)/.installed
	@mkdir -p demo
	@cd demo; for stage in \
		"train" \
		"quantize --bits 4" \
		"export --target loihi" \
		"simulate --report sparsity" \
		"report"; do \
		printf '\n$$ dsr-deploy %s\n' "$$stage"; \
		$(DSR) $$stage || exit; \
	done

test: $(TOOLS)/.installed-test lava
	$(TOOLS)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-slow: $(TOOLS)/.installed-test lava
	$(TOOLS)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile -m slow

docs: $(TOOLS)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(TOOLS)/bin/python -m mkdocs build --strict

mutants: $(TOOLS)/.installed-mutants
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(TOOLS)/bin/python -m mutants.run $(OPTIONS) $(MODULE)

# The versions in the order in which they were tested most.
$(TOOLS)/.installed: pyproject.toml constraints.txt
	@if ! [ -x $(TOOLS)/bin/python ]; then \
		python=$$($(call find_python,3.11 3.12 3.13)); \
		if [ -z "$$python" ]; then \
			echo "no Python 3.11, 3.12 or 3.13 found; install one and put it on the PATH" >&2; \
			exit 1; \
		fi; \
		"$$python" -m venv $(TOOLS); \
	fi; \
	echo "$(TOOLS): installing for $$($(TOOLS)/bin/python --version): a few minutes"; \
	if [ "$$(uname)" = Linux ] && [ -n "$(TORCH_CPU)" ] && ! nvidia-smi --list-gpus >/dev/null 2>&1; then \
		wheels=$$(sed -nE 's/^(torch|torchvision)==.*/&+cpu/p' constraints.txt); \
		$(TOOLS)/bin/python $(INSTALL) --no-deps --retries 0 --index-url $(TORCH_CPU) $$wheels 2>/dev/null \
			|| echo "$(TOOLS): no torch without CUDA at $(TORCH_CPU); the usual one brings 4 GB more"; \
	fi; \
	$(TOOLS)/bin/python $(INSTALL) -c constraints.txt -e .
	@touch $@

$(TOOLS)/.installed-test: $(TOOLS)/.installed
	@echo "$(TOOLS): installing the test tools"
	@$(TOOLS)/bin/python $(INSTALL) -c constraints.txt -e '.[test]'
	@touch $@

$(TOOLS)/.installed-docs: $(TOOLS)/.installed
	@echo "$(TOOLS): installing mkdocs"
	@$(TOOLS)/bin/python $(INSTALL) -c constraints.txt -e '.[docs]'
	@touch $@

$(TOOLS)/.installed-mutants: $(TOOLS)/.installed-test
	@echo "$(TOOLS): installing cosmic-ray"
	@$(TOOLS)/bin/python $(INSTALL) -c constraints.txt -e '.[test,mutants]'
	@touch $@

# Lava runs under Python 3.10 alone. Without one its tests are skipped, except on a CI machine.
lava:
	@if $(MAKE) --question $(LAVA)/.installed 2>/dev/null; then exit 0; fi; \
	python=$$($(call find_python,3.10)); \
	if [ -n "$$python" ]; then create="$$python -m venv"; \
	elif command -v uv >/dev/null; then create="uv venv --quiet --seed --python 3.10"; \
	else \
		echo "no Python 3.10 found: no Lava engine here, its tests are skipped"; \
		[ "$${CI:-}" != true ]; exit; \
	fi; \
	$(MAKE) --no-print-directory $(LAVA)/.installed LAVA_CREATE="$$create"

$(LAVA)/.installed: pyproject.toml constraints-lava.txt
	@echo "$(LAVA): installing: about half a minute, 0.6 GB"
	@[ -x $(LAVA)/bin/python ] || $(LAVA_CREATE) $(LAVA)
	@$(LAVA)/bin/python $(INSTALL) -c constraints-lava.txt -e .
	@touch $@

clean:
	rm -rf $(TOOLS) $(LAVA) demo build site *.egg-info hardware/*.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Prints the first interpreter of these versions that runs and can make an environment. Each is
# tried out: pyenv puts commands on the PATH that do nothing but fail.
define find_python
for version in $(1); do \
	for python in python$$version python3 \
			"$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin/python3; do \
		if "$$python" -c "import ensurepip, sys; sys.exit('%d.%d' % sys.version_info[:2] != '$$version')" \
				>/dev/null 2>&1; then \
			command -v "$$python"; exit 0; \
		fi; \
	done; \
done
endef
