"""The strict environment of all tests, and fixtures that several of them use."""

import fcntl
import gc
import os
import pathlib
import shutil
import socket
import tempfile

import hypothesis
import jax
import pytest

from configs import classifier_mnist, judge_mnist, unet_mp_tr_ce, vae_mnist
from tests.helpers import leave_out_figures, make_tiny_task, save_run, shrink

# Tests trace and compile more than they compute.
gc.set_threshold(100_000, 50, 100)
os.environ['XLA_FLAGS'] = '--xla_backend_optimization_level=0'
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 4)
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_traceback_in_locations_limit', 0)
hypothesis.settings.register_profile('tests', deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile('tests')


def pytest_configure(config):
    """Moves data and caches to a temporary folder, before TFDS is imported; xdist's workers inherit it."""
    if not hasattr(config, 'workerinput'):
        home = tempfile.mkdtemp(prefix='unet_vae_jax_tests_')
        config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
        os.environ.update(TFDS_DATA_DIR=f'{home}/data', XDG_CACHE_HOME=f'{home}/cache')
    reuse_compiled(f'{os.environ["XDG_CACHE_HOME"]}/compiled_{os.environ.get("PYTEST_XDIST_WORKER", "alone")}')


LONGEST = ('test_task', 'test_train', 'test_processes', 'test_measures', 'test_main', 'test_model', 'test_kill')


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Starts with the files that take longest, so that the processes of `make test` end at about the same time."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def reuse_compiled(folder):
    """Caches compiled functions; one folder per worker, because JAX writes there without a lock."""
    options = {
        'compilation_cache_dir': folder,
        'persistent_cache_min_entry_size_bytes': -1,
        'persistent_cache_min_compile_time_secs': 0.3,
    }
    for name, value in options.items():
        jax.config.update(f'jax_{name}', value)
        os.environ[f'JAX_{name.upper()}'] = str(value)  # For the processes that tests start.


@pytest.fixture(autouse=True, scope='session')
def no_network():
    """Refuses all connections and name look-ups beyond this machine."""
    connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ('localhost', '127.0.0.1', '::1'):
            raise ConnectionError(f'tests have no network: {address}')
        return connect(self, address)

    def guarded_getaddrinfo(host, *args, **kwargs):
        if host not in (None, 'localhost', '127.0.0.1', '::1'):
            raise ConnectionError(f'tests have no network: {host}')
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, 'connect', guarded_connect)
        patch.setattr(socket, 'getaddrinfo', guarded_getaddrinfo)
        yield


@pytest.fixture(autouse=True, scope='module')
def clear_compiled_functions():
    """Frees compiled functions after each module, because they fill gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture
def strict_dtypes():
    """Forbids implicit type promotion, in our own losses, metrics and forward passes; optax needs it."""
    with jax.numpy_dtype_promotion('strict'):
        yield


@pytest.fixture
def no_figures(monkeypatch):
    """Leaves out the pictures of a run, because drawing takes seconds."""
    leave_out_figures(monkeypatch)


@pytest.fixture
def config():
    """The U-Net's demo configuration, shrunk."""
    return shrink(unet_mp_tr_ce.get_config('demo'))


@pytest.fixture(scope='session')
def prepared_pets():
    """Draws the synthetic pets at the size of `config`, once for all workers."""
    from unet import data

    with open(f'{pathlib.Path(os.environ["TFDS_DATA_DIR"]).parent}/lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for split in ('train', 'test'):
            data.load(shrink(unet_mp_tr_ce.get_config('demo')).data, split)


@pytest.fixture
def pets(config, prepared_pets):
    """The `data` section of `config`, with the synthetic pets drawn."""
    return config.data


@pytest.fixture
def tiny_task(config):
    return make_tiny_task(config)


@pytest.fixture(scope='session')
def vae_runs(tmp_path_factory):
    """A folder with the work directories `vae`, `classifier` and `judge`, tiny and untrained."""
    from vae.classifier import ClassifierTask
    from vae.task import VAETask

    folder = tmp_path_factory.mktemp('vae_runs')
    configs = {'vae': vae_mnist, 'classifier': classifier_mnist, 'judge': judge_mnist}
    configs = {name: module.get_config('demo') for name, module in configs.items()}
    for name, config in configs.items():
        config.data.image_size, config.model.width = 16, 4
        if name != 'vae':
            configs['vae'][f'{name}_workdir'] = str(save_run(ClassifierTask(config), folder / name))
    configs['vae'].model.decoder_width = 4
    save_run(VAETask(configs['vae']), folder / 'vae')
    return folder


@pytest.fixture(scope='session')
def vae_predictor(vae_runs):
    from common.serving import predict
    from main import make_task

    return predict.load(vae_runs / 'vae', make_task)
