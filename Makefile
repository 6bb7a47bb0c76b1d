PYTHON ?= python3
BIN := .venv/bin
ORDER ?= -p no:randomly

.PHONY: demo lint test soak notebook bench accelerators clean

demo: .venv/ready  ## Train a U-Net and a VAE on synthetic data and evaluate their checkpoints.
	$(BIN)/python main.py --config=configs/unet_mp_tr_ce.py:demo
	$(BIN)/python main.py --mode=eval --workdir=runs/unet_mp_tr_ce_demo
	$(BIN)/python main.py --config=configs/classifier_mnist.py:demo
	$(BIN)/python main.py --config=configs/judge_mnist.py:demo
	$(BIN)/python main.py --config=configs/vae_mnist.py:demo
	$(BIN)/python main.py --mode=eval --workdir=runs/vae_mnist_demo

lint: .venv/ready-dev  ## Format, lint and types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint  ## Lint, and the whole test suite.
	$(BIN)/python -m pytest -q -rs -n 2 --dist loadfile --no-loadscope-reorder $(ORDER) tests

soak: .venv/ready-dev  ## Fifty kills, some while a checkpoint is written; memory over a thousand steps.
	KILLS=50 $(BIN)/python -m pytest -q -s -m "soak or not soak" tests/common/test_kill.py tests/common/test_memory.py

notebook: .venv-notebook/ready  ## Execute docs/quickstart.ipynb in an environment that has its own JAX, NumPy and TensorFlow.
	.venv-notebook/bin/jupyter-execute docs/quickstart.ipynb --timeout=3600

bench: .venv/ready-bench  ## Compare the speed with PyTorch, after a check that both compute the same.
	$(BIN)/python -m pytest -q benchmarks
	$(BIN)/python -m benchmarks.bench $(BENCH)

accelerators: .venv-accelerators/ready  ## What the compilers of TPU and CUDA estimate; neither needs the hardware.
	.venv-accelerators/bin/python -m benchmarks.accelerators $(ACCELERATORS)

clean:  ## Remove the demo's runs.
	rm -rf runs/*_demo

.venv/ready: requirements.txt
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit("error: Python 3.11, 3.12 or 3.13 is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

.venv/ready-dev: .venv/ready requirements-dev.txt requirements-serve.txt
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

.venv/ready-bench: .venv/ready benchmarks/requirements.txt
	$(BIN)/pip install --quiet -r benchmarks/requirements.txt
	touch $@

.venv-notebook/ready: requirements-notebook.txt
	$(PYTHON) -m venv .venv-notebook
	.venv-notebook/bin/pip install --quiet -r requirements-notebook.txt
	touch $@

.venv-accelerators/ready: requirements.txt benchmarks/requirements-accelerators.txt
	$(PYTHON) -m venv .venv-accelerators
	.venv-accelerators/bin/pip install --quiet -r benchmarks/requirements-accelerators.txt
	touch $@
