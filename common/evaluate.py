"""Exact metrics over a whole split: every example counts once, independent of the batch size."""

from collections.abc import Callable
import dataclasses
import functools
import json
import pathlib
import re
from typing import Any

import jax
from ml_collections import ConfigDict
import numpy as np

from common import workdir as workdir_lib
from common.checkpoint import last_step, restore
from common.config import filled
from common.data import batches
from common.errors import UserError
from common.keys import Keys
from common.parallel import Devices, first_before_others, is_first, on_first
from common.task import Task, metrics_of
from common.writers import save_images


class Evaluation:
    """Evaluates a task on its splits; compiles the step once for each choice of measures.

    Attributes:
        split: the split measured during training: 'validation' if part of the training split is held out,
            else 'test'.
    """

    def __init__(self, task: Task, devices: Devices):
        self.task, self.devices = task, devices
        self.feeds: dict[str, batches.Feed] = {}
        self.split = 'validation' if task.config.data.validation_examples else 'test'
        self.batch_size = -(-task.config.eval_batch_size // devices.count) * devices.count
        self.root = devices.replicate(jax.random.key(task.config.seed))
        self.compiled = functools.cache(
            lambda measures: devices.map(
                functools.partial(self.run_step, measures=measures), in_axes=(None, None, 0, None)
            )
        )

    def step(self, split: str):
        """The compiled step for a split: metric sums of one batch over all devices, and rows `[B, ...]`."""
        return self.compiled(self.task.measures(split))

    def run_step(self, variables, constants, batch, root, *, measures):
        results = self.task.eval_step(variables, constants, batch, Keys(root, 0), measures)
        rows = {name: results.pop(name) for name in self.task.per_example if name in results}
        return self.devices.sum(results), self.devices.gather(rows)

    def feed(self, split: str) -> batches.Feed:
        if split not in self.feeds:
            self.feeds[split] = batches.Feed(first_before_others(lambda: self.task.load(split)), self.devices)
        return self.feeds[split]

    def metrics(self, variables, constants, poll: Callable[[], None], split: str = '') -> dict[str, float]:
        """Metrics of one split; `poll` is called after every batch and may raise to stop."""
        split = split or self.split
        totals = Totals()
        sent: tuple = ()
        for index, valid in batches.padded_batches(self.feed(split).size, self.batch_size):
            # Dispatch the next batch before waiting for the sums of the last one.
            sent, arrived = self.send(split, index, valid, variables, constants), sent
            if arrived:
                totals.add(*arrived)
            poll()
        totals.add(*sent)
        return metrics_of(self.task, totals.results())

    def first_batch(self, variables, constants) -> dict[str, float]:
        """The metrics of a first batch of the split that is measured in the course of training."""
        totals = Totals()
        index, valid = next(batches.padded_batches(self.feed(self.split).size, self.batch_size))
        totals.add(*self.send(self.split, index, valid, variables, constants))
        return metrics_of(self.task, totals.results())

    def send(self, split: str, index: np.ndarray, valid: np.ndarray, variables, constants) -> tuple:
        """Dispatches the evaluation of one batch. Returns the arguments of `Totals.add`."""
        batch = self.feed(split)(index) | {'valid': self.devices.split(valid)}
        return *self.step(split)(variables, constants, batch, self.root), valid

    def results(self, variables, constants, poll: Callable[[], None], *, step: int, trained: int) -> dict[str, Any]:
        """The contents of results.json: all metrics of the test split, and the loss on the training split.

        Args:
            step: of the variables. trained: the last step of the run so far.
        """
        train = self.metrics(variables, constants, poll, 'train')
        test = self.metrics(variables, constants, poll, 'test')
        total = batches.total_steps(self.task.config, self.feed('train').size)
        return {
            **test,
            'train_loss': train['loss'],
            'split': 'test',
            'step': step,
            'finished': trained == total,
            'num_examples': self.feed('test').size,
            'test_checksum': self.feed('test').checksum,
        }

    def figures(self, variables) -> dict[str, np.ndarray]:
        """The task's pictures of a fixed set of test examples. Only the first process draws them; others return {}."""
        feed = self.feed('test')
        if not is_first():
            return {}
        variables = jax.tree.map(np.asarray, variables)
        examples = fixed_examples(feed, self.task.figure_examples)
        return self.task.figures(variables, examples, Keys(jax.random.key(self.task.config.seed), 0))


def fixed_examples(feed: batches.Feed, count: int) -> dict[str, np.ndarray]:
    """The same examples in every run, spread evenly over the split, with their `index` in it."""
    index = np.linspace(0, feed.size - 1, min(count, feed.size)).round().astype(np.int32)
    return feed.take(index)


class Totals:
    """What the steps of an evaluation have found so far, on the host."""

    def __init__(self):
        self.sums, self.rows = None, []

    def add(self, sums, rows, valid: np.ndarray) -> None:
        """Adds a batch, less the rows that are not valid."""
        self.sums = add(self.sums, sums)
        self.rows.append(jax.tree.map(lambda x: np.asarray(x)[valid], rows))

    def results(self) -> dict[str, Any]:
        """The sums, and the rows `[N, ...]` of all examples in the order of the split."""
        return self.sums | jax.tree.map(lambda *batches: np.concatenate(batches), *self.rows)


def add(totals, sums):
    """Adds in float64 on the host: a split may have more pixels than float32 counts exactly."""
    sums = jax.tree.map(lambda x: np.asarray(x, np.float64), sums)
    return sums if totals is None else jax.tree.map(np.add, totals, sums)


def numbers(results: dict[str, Any]) -> dict[str, float]:
    """The metrics among the results."""
    return {name: value for name, value in results.items() if isinstance(value, float)}


def other_data(stored: ConfigDict, config: ConfigDict) -> str:
    """What to call the data of `config`, as part of a file's name; '' where they are those of the stored one."""
    old, new = stored.data, config.data
    folder = workdir_lib.folder_of(config)
    if old.name == new.name and (new.name != 'folder' or workdir_lib.folder_of(stored) == folder):
        return ''
    return re.sub(r'[^\w.-]+', '_', folder.name if folder else new.name)


def check_free(path: pathlib.Path, config: ConfigDict) -> None:
    """Raises UserError where `path` has results on another folder of the same name."""
    try:
        before = json.loads(path.read_text())['dir']
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return
    folder = workdir_lib.folder_of(config)
    if folder and before != str(folder):
        raise UserError(f'{path} has the results on {before}; rename or remove it to evaluate on {folder}')


def evaluate(task: Task, workdir: pathlib.Path) -> dict[str, Any]:
    """Restores the run in `workdir`, evaluates it on the test split, and writes results.json and pictures.

    Where `task` names other data than the run was trained on, the files are named after them, and all pictures of a
    folder without a test part are evaluated.

    Raises:
        UserError: the run cannot be restored, its data cannot be had, or `workdir` cannot be written or has results on
            another folder of the same name.
    """
    with workdir_lib.locked(workdir):
        other = other_data(workdir_lib.load_config(workdir), task.config)
        ending = f'_{other}' if other else ''
        path = workdir / workdir_lib.RESULTS
        path = path.with_stem(f'{path.stem}{ending}')
        if other:
            check_free(path, task.config)
        devices = Devices()
        variables, step = restore(task, workdir, devices)
        constants = devices.replicate(task.constants())
        if other:
            task = dataclasses.replace(task, config=filled(task.config, {'data.test_share': 1.0}))
        evaluation = Evaluation(task, devices)
        if other:
            results = evaluation.metrics(variables, constants, lambda: None, 'test') | {
                'split': 'test',
                'step': step,
                'num_examples': evaluation.feed('test').size,
                'data': task.config.data.name,
                'dir': str(workdir_lib.folder_of(task.config) or task.config.data.dir),
            }
        else:
            trained = last_step(workdir) or 0
            results = evaluation.results(variables, constants, lambda: None, step=step, trained=trained)
            # A shared copy has its best state alone, at another step than the last.
            results['finished'] |= workdir_lib.is_finished(workdir)

        def write():
            workdir_lib.write_json(path, results)
            pictures = evaluation.figures(variables)
            save_images(workdir, {f'{name}{ending}': picture for name, picture in pictures.items()})

        on_first(write)  # The others wait: a process that leaves early counts as lost.
        return results
