"""The contract between a task and everything that uses one: training, evaluation, prediction, export, report, page.

A task says what is particular to one kind of model. `common` calls only what is written here, and knows no task;
main.py lists the tasks there are. `init`, `loss`, `eval_step` and `predict` are compiled, so they must be pure.
"""

import abc
from collections import Counter
from collections.abc import Hashable, Sequence
import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
from ml_collections import ConfigDict
import numpy as np
from PIL import Image

from common.data.source import DataSet
from common.errors import UserError
from common.keys import Keys

Arrays = dict[str, Any]  # Name to array.
Variables = Any  # Flax's `{'params': ..., 'batch_stats': ...}`.


class Picture(NamedTuple):
    """A picture of a report, uint8 `[H, W, 3]`; its title is its alternative text and names its file."""

    title: str
    caption: str
    image: np.ndarray


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """What is particular to one kind of model. The abstract methods are enough to train and evaluate.

    The others have defaults: `data_set`, `contents`, `meaning` and `tiles` serve `--mode=data`; `report`, `compare`
    and `loss_name` serve `--mode=report`; `predict`, `present` and `colors` serve `--mode=predict`,
    `export` and `serve`.

    **Order of calls.** At the start: `open_values`, `load` of each split, `init`, `constants`. At each step: `loss`.
    Every `log_every_steps` steps: `summarize`. Every `eval_every_epochs` epochs: `eval_step` on the validation split
    (the test split where none is held out), `summarize`, `figures`. At the end: `eval_step` on the validation, training
    and test splits, `summarize`, `figures`. Only the first process calls `figures`. `eval_step`, `figures` and
    `predict` are given the moving average of the variables.

    **Batches.** A batch is a dictionary of arrays `[B, ...]`, where B is the number of examples on one device. It holds
    what `load` returned, unchanged: `loss` augments and standardises, `eval_step` only standardises. It also holds
    `index` int32 `[B]`, the place of each example in its split, and in evaluation `valid` bool `[B]`, False for
    examples that only fill up the last batch.

    **Devices.** Losses and sums are per device. The caller takes the mean of the gradients and adds the sums over
    devices (the mapped axis is `common.parallel.AXIS`). This is right if the loss is a mean of one value per example.

    **Random numbers.** `keys.per_example(name, batch['index'])` gives each example a key that depends on seed, name,
    step and index, but not on how the batch is split. An example that is twice in a batch, at the border of two epochs
    or in a batch larger than the data set, gets the same key twice. `keys.stream(name)` is the same on all devices:
    draw no noise for a batch from it.

    Attributes:
        config: the complete configuration. `__post_init__` raises UserError for values that do not fit.
        title: the name of the kind of model, for reports.
        headline: the metrics that the terminal shows, and TensorBoard first.
        curves: the metrics to plot.
        figure_examples: how many test examples `figures` and `compare` are given.
        takes_labels: whether `predict` takes a label for each image.
        per_example: names of results of `eval_step` that are kept for each example, arrays `[B, ...]` or trees of
            them. They are not summed; `summarize` gets those of all examples, in the order of the split.
    """

    config: ConfigDict
    title: ClassVar[str]
    headline: ClassVar[tuple[str, ...]] = ('loss',)
    curves: ClassVar[tuple[str, ...]] = ('loss',)
    figure_examples: ClassVar[int] = 8
    takes_labels: ClassVar[bool] = False
    per_example: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abc.abstractmethod
    def defaults(cls) -> ConfigDict:
        """A configuration with every key that the task and `common` read.

        Every configuration is checked against it: an unknown key and a value of another type are refused, and a missing
        key gets the value from here. So the default of a new key must give what the code did before.
        """

    # Data and initial values.

    @abc.abstractmethod
    def load(self, split: str) -> dict[str, np.ndarray]:
        """All examples of 'train', 'validation' or 'test', stacked along the first axis: images as uint8.

        Names and types of other arrays are the task's, and may differ between splits.
        """

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Variables:
        """The initial variables: `params`, which the optimizer trains, and `batch_stats`, which may be missing."""

    def open_values(self) -> dict[str, Any]:
        """Values that the configuration leaves to the data, such as empty `data.classes`, by dotted name.

        Asked at each start of training. Raises UserError where the data do not tell.
        """
        return {}

    def constants(self) -> Arrays:
        """Arrays that `loss` and `eval_step` read and nothing changes, such as frozen classifiers."""
        return {}

    # The page about the data (common/report/dataset.py).

    def data_set(self) -> DataSet:
        """The data set as it is stored."""
        raise UserError(f'{self.title} has no page about its data')

    def contents(self, example: Arrays) -> Counter[str]:
        """How many pixels of the mask of a stored example have each value, or 1 for its label.

        Raises `common.data.source.Fault` for an example that is wrong.
        """
        return Counter()

    @property
    def meaning(self) -> dict[str, str]:
        """The name of the class of each value that `contents` may have; '' for values that are ignored."""
        return {}

    def tiles(self, example: Arrays) -> dict[str, np.ndarray]:
        """Pictures uint8 `[H, W, 3]` of one stored example, by title. Raises Fault."""
        return {}

    # Training.

    def stage(self, progress: float) -> Hashable:
        """The stage of training at `progress` in [0, 1); the step is compiled once for each stage."""
        return None

    @abc.abstractmethod
    def loss(
        self, params: Any, batch_stats: Any, constants: Arrays, batch: Arrays, keys: Keys, stage: Any
    ) -> tuple[jax.Array, tuple[Any, Arrays]]:
        """The loss of a training batch.

        Returns:
            The scalar to minimise, a mean of one value per example, and a pair: the new `batch_stats`, equal on all
            devices (batch normalisation takes `axis_name=AXIS`; `{}` without any), and metric sums, a dictionary of
            arrays for `summarize`. The loop adds these up on the device over `log_every_steps` steps: integers must not
            overflow, and a value that is not finite ends the run.
        """

    # Evaluation.

    def measures(self, split: str) -> Hashable:
        """The argument `measures` of `eval_step` on a split: a task may measure less on some splits.

        The VAE, for example, measures no swaps on 'train'. The step is compiled once for each value.
        """
        return None

    @abc.abstractmethod
    def eval_step(self, variables: Variables, constants: Arrays, batch: Arrays, keys: Keys, measures: Any) -> Arrays:
        """Metric sums over the valid examples of a batch, in evaluation mode: numerators and counts, never means.

        Results that `per_example` names are exempt: they are one row per example.
        """

    @abc.abstractmethod
    def summarize(self, sums: Arrays) -> dict[str, float]:
        """Metrics, as Python floats, from the sums of `loss` or of `eval_step`; one of them is named 'loss'.

        The sums are NumPy arrays, those of `eval_step` in float64. Among them are the rows that `per_example` names.
        """

    def figures(self, variables: Variables, examples: Arrays, keys: Keys) -> dict[str, np.ndarray]:
        """Pictures of `figure_examples` test examples, which are NumPy arrays: uint8 `[height, width, 3]`, by name."""
        return {}

    # Reports. `rows` are entries of common/report/runs.py, all of this task and measured on the same examples.

    @property
    def loss_name(self) -> str:
        """Which loss is trained, of a task that has several; curves of different ones are not drawn together."""
        return ''

    def report(self, rows: list[Any]) -> list[str | Picture]:
        """The part of a report that is particular to this task: Markdown lines, and pictures made without test data."""
        return []

    def compare(self, runs: dict[str, tuple[Any, Variables]], examples: Arrays) -> list[Picture]:
        """Pictures of the same test examples by several runs, by name."""
        return []

    # Prediction, export and the web page.

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers; empty where `data.classes` is `()`."""
        return tuple(self.config.data.classes)

    @property
    def channels(self) -> int:
        """Channels of an image: 1 or 3."""
        return len(self.config.data.mean)

    @property
    def colors(self) -> dict[str, str]:
        """CSS colours of the classes in the pictures of `present`, by name; empty where these show no classes."""
        return {}

    def predict(self, variables: Variables, images: jax.Array, labels: Any = None) -> jax.Array:
        """Images uint8 `[B, S, S, channels]`, and labels int32 `[B]` if `takes_labels`, to outputs `[B, ...]`."""
        raise UserError(f'{self.title} does not predict for pictures')

    def present(
        self, picture: Image.Image, output: np.ndarray, labels: Sequence[int] = ()
    ) -> tuple[dict[str, Image.Image], dict[str, Any]]:
        """What to show of a prediction: images to save, by name, and a record of values for JSON.

        Args:
            picture: the picture as it was given, RGB, upright.
            output: what `predict` returned for it; if `takes_labels`, stacked `[labels, ...]`.
            labels: the labels that were asked for, as numbers.
        """
        raise UserError(f'{self.title} does not predict for pictures')


def metrics_of(task: Task, sums: Arrays) -> dict[str, float]:
    """`task.summarize(sums)`. Raises TypeError where that has no 'loss', which logs and results need."""
    metrics = task.summarize(sums)
    if 'loss' not in metrics:
        raise TypeError(f"{type(task).__name__}.summarize returned {sorted(metrics)}; one of them must be 'loss'")
    return metrics
