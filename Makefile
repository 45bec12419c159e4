# make demo   trains two translators and a VQ-VAE in minutes, prints BLEU, draws digits
# make test   runs linter, formatter and all tests
# make web    fetches, with npm, what the page needs to run without a server, and its tests
#
# demo and test install into .venv, with the versions in constraints.txt. Another Python, 3.10 to 3.13:
# make test PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
# Part of the stamp files' names, so that another Python gets another environment.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Packages run nothing at their installation.
NPM_CI := npm ci --prefix web --ignore-scripts --no-audit --no-fund --loglevel=error

.PHONY: help demo test web clean

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

demo: $(VENV)/demo-$(VERSION)
	@$(BIN)/t2t-demo

test: $(VENV)/test-$(VERSION)
	@{ command -v npm >/dev/null && $(MAKE) --no-print-directory web; } || \
	  echo "no packages by npm: tests of the page that need them are skipped"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m pytest -n logical --maxprocesses=8 --dist=worksteal

web: t2t_vqem/export/page/vendor/LICENSES.txt

t2t_vqem/export/page/vendor/LICENSES.txt: web/node_modules/.package-lock.json web/build.mjs \
    web/embind_function.js
	@node web/build.mjs t2t_vqem/export/page/vendor

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	@$(NPM_CI)
	@touch $@

clean:
	rm -rf $(VENV) web/node_modules t2t_vqem/export/page/vendor

$(VENV)/python-$(VERSION):
	$(if $(VERSION),,$(error $(PYTHON) was not found: make $(MAKECMDGOALS) PYTHON=python3.12))
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/demo-$(VERSION): $(VENV)/python-$(VERSION) setup.py pyproject.toml constraints.txt
	$(INSTALL) -e '.[demo,server]'
	@touch $@

$(VENV)/test-$(VERSION): $(VENV)/python-$(VERSION) setup.py pyproject.toml constraints.txt
	$(INSTALL) -e '.[all,dev]'
	@touch $@
