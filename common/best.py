"""The state with the best value of a validation metric, in WORKDIR/best, where `checkpoint.best` names one."""

import pathlib
from typing import Any

from common.checkpoint import BEST, Checkpoints
from common.errors import UserError


def check(config: Any) -> None:
    """Raises UserError unless there is something to choose the best state by."""
    if config.checkpoint.best and not (config.data.validation_examples and config.eval_every_epochs):
        raise UserError(
            f'checkpoint.best is {config.checkpoint.best!r}, which needs validation examples that are evaluated on '
            'the way: set data.validation_examples and eval_every_epochs'
        )


class Best:
    """Keeps the averaged variables of the best evaluation so far.

    Attributes:
        name: the metric.
        sign: 1 where more is better, -1 where less is.
        value: the best value so far, times `sign`.
    """

    def __init__(self, workdir: pathlib.Path, metric: str, step: int, lines: list[dict[str, Any]]):
        """Where the run resumes from `step`, states of later steps are dropped.

        Args:
            lines: those of metrics.jsonl up to `step`.
        """
        self.name, self.sign = metric.removeprefix('-'), -1 if metric.startswith('-') else 1
        self.checkpoints = Checkpoints(workdir / BEST)
        self.checkpoints.drop_after(step)
        kept = self.checkpoints.latest_step()
        found = [line.get(self.name) for line in lines if line['split'] == 'validation' and line['step'] == kept]
        self.value = self.sign * found[0] if found and found[0] is not None else float('-inf')

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.checkpoints.__exit__(*error)

    def check_name(self, metrics: dict[str, float]) -> None:
        """Raises UserError unless the metric is one of `metrics`."""
        if self.name not in metrics:
            raise UserError(f'checkpoint.best is {self.name!r}; choose one of {", ".join(sorted(metrics))}')

    def offer(self, step: int, average: Any, metrics: dict[str, float]) -> None:
        """Saves the variables where they are better than before. Returns when they are written."""
        if self.sign * metrics[self.name] > self.value:
            self.value = self.sign * metrics[self.name]
            self.checkpoints.save(step, {'average': average})
            self.checkpoints.wait()

    def restore(self, template: Any) -> tuple[Any, Any]:
        """The best variables, placed as `template` is, and their step. Raises UserError where none was kept."""
        if self.checkpoints.latest_step() is None:
            raise UserError(
                f'checkpoint.best is {self.name!r}, which was never a number in validation, so that no state was kept; '
                'train with another metric in another --workdir'
            )
        return self.checkpoints.restore({'average': template})['average'], self.checkpoints.latest_step() or 0
