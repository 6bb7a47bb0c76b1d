"""The training loop. It trains any task (see common/task.py) and knows none of them."""

import bisect
import contextlib
import dataclasses
import functools
import pathlib
import signal
from typing import Any, NamedTuple

from clu import parameter_overview
import jax
import jax.numpy as jnp
import numpy as np
import optax

from common import best as best_lib
from common import config as config_lib
from common import cpu, init_from, optimizer
from common import workdir as workdir_lib
from common.checkpoint import Checkpoints, last_step
from common.data import batches, cache
from common.errors import Diverged, Interrupted, UserError, notice
from common.evaluate import Evaluation, numbers
from common.keys import Keys
from common.parallel import Devices, is_first, keep_compiled, largest, on_first, run_once
from common.profile import Profile
from common.progress import Progress
from common.report import figures
from common.task import Task, metrics_of
from common.writers import Writer, read_metrics


class TrainState(NamedTuple):
    """The state that a run carries from step to step; keys and data order are functions of the step.

    Attributes:
        step: number of steps done.
        params, batch_stats: the trained parameters, and the running statistics.
        opt_state: optax's state.
        average: moving average of `params` and `batch_stats`, used by evaluation.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    average: dict[str, Any]


class StopRequest:
    """Defers the first SIGINT or SIGTERM until the loop polls; the second one acts at once."""

    signum: int = 0

    def __enter__(self):
        self.previous = {s: signal.signal(s, self.receive) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for signum, handler in self.previous.items():
            signal.signal(signum, handler)

    def receive(self, signum, frame):
        self.__exit__()
        self.signum = signum
        notice('\nstopping: saving the state first; press Ctrl-C again to exit at once')

    def poll(self) -> None:
        """Raises StopAsked if any process has received a signal; all processes must poll at the same points."""
        if signum := largest(self.signum):
            raise StopAsked(signum)


class StopAsked(Exception):
    """Leaves training or an evaluation early."""

    def __init__(self, signum: int):
        self.signum = signum


def check(task: Task) -> None:
    """Raises UserError for an optimizer or a batch size that training would refuse, before data are read."""
    options = task.config.optimizer
    optimizer.create(options, optimizer.schedule(options, 1))
    best_lib.check(task.config)
    Devices().check_batch(task.config.batch_size)


class Trainer:
    """A task, its optimizer and the devices: the compiled steps, and the state they work on."""

    def __init__(self, task: Task, feed: batches.Feed, devices: Devices):
        config = self.config = task.config
        self.task, self.feed, self.devices = task, feed, devices
        self.steps = batches.total_steps(config, self.feed.size)
        if self.steps < 1:
            raise UserError(
                f'{config.num_epochs} epochs of {self.feed.size} examples are less than one batch '
                f'of {config.batch_size}; lower batch_size or raise num_epochs'
            )
        self.schedule = optimizer.schedule(config.optimizer, self.steps)
        self.optimizer = optimizer.create(config.optimizer, self.schedule)
        self.root = devices.replicate(jax.random.key(config.seed))
        # One compiled function for each stage of training.
        self.compiled = functools.cache(
            lambda stage: devices.map(
                functools.partial(self.run_steps, stage=stage), in_axes=(None, None, 0, None), donate=(0,)
            )
        )
        self.dispatched: set[tuple[Any, int]] = set()
        self.add = jax.jit(add_sums)

    def init(self, other_run: str = '') -> tuple[TrainState, Any]:
        """The initial state and the task's constants, not yet placed on the devices.

        `other_run` is a work directory whose averaged variables training starts from, '' for drawn ones.
        """
        variables = run_once(self.task.init, Keys(jax.random.key(self.config.seed), 0).stream('init'))
        if other_run:
            variables = init_from.from_run(self.task, variables, pathlib.Path(other_run).expanduser())
        constants = self.task.constants()
        params, batch_stats = variables['params'], variables.get('batch_stats', {})
        state = TrainState(
            jnp.zeros((), jnp.int32),
            params,
            batch_stats,
            self.optimizer.init(params),
            {'params': params, 'batch_stats': batch_stats},
        )
        return state, constants

    def stage(self, step: int):
        """The task's stage of training at this step."""
        return self.task.stage(step / self.steps)

    def is_new(self, step: int, count: int) -> bool:
        """Whether dispatching `count` steps from `step` on will compile a program."""
        return (self.stage(step), count) not in self.dispatched

    def __call__(self, state: TrainState, constants, step: int, count: int) -> tuple[TrainState, Any]:
        """Dispatches `count` steps from `step` on; `state` is donated.

        Returns the state, and sums over the steps: `metrics` of the task, `grad_norm`, and `steps`.
        """
        self.dispatched.add((self.stage(step), count))
        index = np.stack(
            [
                batches.batch_indices(self.config.seed, s, self.config.batch_size, self.feed.size)
                for s in range(step, step + count)
            ]
        )
        return self.compiled(self.stage(step))(state, constants, self.feed(index), self.root)

    def total(self, before, sums, step: int):
        """The sums since the last multiple of `log_every_steps`: those before `step`, and `sums` of the steps after."""
        return self.add(before, sums) if step % self.config.log_every_steps else sums

    def run_steps(self, state: TrainState, constants, stacked, root, *, stage):
        """As many steps as `stacked` holds batches, `[steps, B / devices, ...]`; returns the state and their sums."""
        one = functools.partial(self.run_step, constants=constants, root=root, stage=stage)
        if len(stacked['index']) == 1:
            return one(state, jax.tree.map(lambda x: x[0], stacked))
        state, sums = jax.lax.scan(one, state, stacked)
        return state, jax.tree.map(lambda x: jnp.sum(x, 0), sums)

    def run_step(self, state: TrainState, batch, *, constants, root, stage) -> tuple[TrainState, Any]:
        """One step of gradient descent on this device's share of the batch; returns the state and the step's sums."""
        loss = functools.partial(self.task.loss, stage=stage)
        (_, (batch_stats, sums)), grads = jax.value_and_grad(loss, has_aux=True)(
            state.params, state.batch_stats, constants, batch, Keys(root, state.step)
        )
        grads = self.devices.mean(grads)
        sums = {'metrics': self.devices.sum(sums), 'grad_norm': optax.tree.norm(grads), 'steps': jnp.int32(1)}
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = optimizer.update_average(
            state.average, {'params': params, 'batch_stats': batch_stats}, state.step, self.config.optimizer.ema_decay
        )
        after = TrainState(state.step + 1, params, batch_stats, opt_state, average)
        if not self.config.optimizer.skip_nonfinite:
            return after, sums
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(sums)]))
        before = state._replace(step=after.step, opt_state=optimizer.with_counts_of(opt_state, state.opt_state))
        choose = functools.partial(jnp.where, finite)
        return jax.tree.map(choose, after, before), jax.tree.map(lambda x: choose(x, jnp.zeros_like(x)), sums)


def add_sums(before, sums):
    """Adds two trees of sums. Raises UserError where `before`, from a checkpoint, has other metrics."""
    if jax.tree.map(jnp.shape, before) != jax.tree.map(jnp.shape, sums):
        raise UserError('the checkpoint holds sums of other metrics; resume with the version that wrote it')
    return jax.tree.map(jnp.add, before, sums)


class Plan:
    """Which steps end an epoch, and after which steps the host logs, saves or evaluates."""

    def __init__(self, config, examples: int, steps: int, stage):
        ends = [epoch * examples // config.batch_size for epoch in range(1, config.num_epochs + 1)]
        every = config.eval_every_epochs
        self.save = set(ends)
        self.evaluate = set(ends[every - 1 :: every] if every else []) - {steps}  # The final evaluation is separate.
        self.log = set(range(config.log_every_steps, steps + 1, config.log_every_steps))
        changes = {step for step in range(1, steps) if stage(step) != stage(step - 1)}
        self.stops = sorted(self.save | self.evaluate | self.log | changes)
        self.most = min(config.steps_per_dispatch or default_dispatch(), config.log_every_steps)

    def count(self, step: int) -> int:
        """How many steps to dispatch together from `step` on, without passing a step with work for the host.

        The full number or 1, so that only two shapes are compiled.
        """
        stop = self.stops[bisect.bisect_right(self.stops, step)]
        return self.most if step + self.most <= stop else 1


def default_dispatch() -> int:
    """Steps per dispatch: one on a CPU, where convolutions inside a loop are slow, ten on an accelerator."""
    return 1 if jax.default_backend() == 'cpu' else 10


class Run:
    """A run in its work directory: resumes from the latest checkpoint, and logs, saves and evaluates on time."""

    def __init__(self, task: Task, workdir: pathlib.Path, stop: StopRequest, profile: int = 0):
        self.task, self.workdir, self.stop, self.profile = task, workdir, stop, Profile(workdir, profile)
        keep_compiled(cache.folder() / 'compiled')
        config, devices = task.config, Devices()
        self.config = config
        self.evaluation = Evaluation(task, devices)
        # What is wrong with a split shows before the first step. All processes load them in this order.
        for split in dict.fromkeys(('test', self.evaluation.split)):
            self.evaluation.feed(split)
        train_feed = self.evaluation.feed('train')
        self.train_data = {'train_examples': train_feed.size, 'train_checksum': train_feed.checksum}
        self.trainer = Trainer(task, train_feed, devices)
        self.plan = Plan(config, train_feed.size, self.trainer.steps, self.trainer.stage)

        # 1. Initial values. 2. Over them, the latest checkpoint of the work directory, where there is one.
        self.checkpoints = Checkpoints(workdir)
        resumes = self.checkpoints.latest_step() is not None
        if resumes:
            workdir_lib.check_same_data(workdir, self.train_data)
        state, constants = self.trainer.init('' if resumes else config.init_from)
        self.state, self.constants = devices.replicate(state), devices.replicate(constants)
        self.sums: Any = None  # Sums over the steps since the last multiple of `log_every_steps`.
        if resumes:
            self.state, self.sums = from_items(self.checkpoints.restore(to_items(self.state, None)))
        self.step = int(self.state.step)

        self.writer = Writer(task, workdir, self.step)
        self.best = None
        if config.checkpoint.best:
            lines = [line for line in read_metrics(workdir) if line['step'] <= self.step]
            self.best = best_lib.Best(workdir, config.checkpoint.best, self.step, lines)
            self.best.check_name(self.evaluation.first_batch(self.state.average, self.constants))
        if self.step < self.trainer.steps:
            on_first(self.begin)
        if not self.step:
            self.writer.start(config_lib.flatten(config), parameter_table(state.params))
        self.progress = Progress(self.trainer.steps, self.step, config.batch_size)
        self.unread: tuple[int, Any] | None = None

    def begin(self) -> None:
        """Removes the results of an earlier step, and writes what this start trains on and with to run.json."""
        (self.workdir / workdir_lib.RESULTS).unlink(missing_ok=True)
        count = sum(x.size for x in jax.tree.leaves(self.state.params))
        workdir_lib.write_json(
            self.workdir / workdir_lib.RUN,
            {
                **self.trainer.devices.description(),
                'jax': jax.__version__,
                'parameters': count,
                **self.train_data,
            },
        )
        cpu.warn_of_dtype(self.config.dtype)

    def go(self) -> dict[str, Any]:
        """Trains to the end and returns the final results."""
        with self.checkpoints, self.best or contextlib.nullcontext(), self.writer, self.progress, self.profile:
            try:
                self.visit()
                while self.step < self.trainer.steps:
                    self.advance()
                    self.visit()
                results = self.finish()
                self.stop.poll()  # A sweep must not go on after a signal that came while pictures were drawn.
                return results
            except StopAsked as asked:
                self.save()
                raise Interrupted(self.step, asked.signum) from None

    def advance(self) -> None:
        """Dispatches the next steps, then reads the values of the previous ones."""
        count = self.plan.count(self.step)
        if self.trainer.is_new(self.step, count):
            self.read()
            with self.progress.untimed(count):
                self.unread = self.dispatch(count)
                jax.block_until_ready((self.unread, self.trainer.add(self.sums, self.sums)))  # Compiles that too.
            return
        with self.profile.step(self.step):
            sent = self.dispatch(count)
        self.read()
        self.unread = sent
        self.profile.advance(count, sent)
        self.progress.advance(count)

    def dispatch(self, count: int) -> tuple[int, Any]:
        """Sends off the next steps; returns the step after them, and the sums since the last logged step."""
        self.state, sums = self.trainer(self.state, self.constants, self.step, count)
        self.sums = self.trainer.total(self.sums, sums, self.step)
        self.step += count
        return self.step, self.sums

    def visit(self) -> None:
        """Logs, saves and evaluates if that is due after the current step."""
        if self.step in self.plan.save:
            self.save()
        if self.step in self.plan.evaluate:
            self.evaluate()
        if jax.process_count() == 1 or self.step in self.plan.stops:  # To ask the others waits for the step.
            self.stop.poll()

    def evaluate(self) -> None:
        """Evaluates the current step, unless that was done before an interruption."""
        self.read()
        if self.writer.has(self.step, self.evaluation.split):
            return
        with self.progress.untimed():
            metrics = self.evaluation.metrics(self.state.average, self.constants, self.stop.poll)
            if self.best:
                self.best.offer(self.step, self.state.average, metrics)
            self.report(self.evaluation.split, metrics, self.state.average)

    def read(self) -> None:
        """Waits for the steps that were sent off, and logs their metrics where that is due."""
        if self.unread is None:
            return
        (step, sums), self.unread = self.unread, None
        jax.block_until_ready(sums)
        if step not in self.plan.log:
            return
        sums = self.checked(sums, step)
        steps = sums['steps']
        if not steps:
            raise self.diverged(step)
        extra = {
            'grad_norm': float(sums['grad_norm'] / steps),
            **self.progress.speed(step),
            'learning_rate': float(self.trainer.schedule(step - 1)),
        }
        if self.config.optimizer.skip_nonfinite:
            extra['skipped_steps'] = self.config.log_every_steps - int(steps)
        metrics = metrics_of(self.task, sums['metrics'])
        self.writer.scalars(step, 'train', metrics, **extra)
        self.progress.show(step / self.trainer.steps * self.config.num_epochs, metrics['loss'])

    def checked(self, sums, step: int):
        """The sums on the host. Raises Diverged unless all are finite."""
        sums = jax.tree.map(np.asarray, sums)
        if not all(np.isfinite(x).all() for x in jax.tree.leaves(sums)):
            raise self.diverged(step)
        return sums

    def diverged(self, step: int) -> Diverged:
        latest = self.checkpoints.latest_step()
        since = (step - 1) // self.config.log_every_steps * self.config.log_every_steps
        left = 'there is no checkpoint yet' if latest is None else f'the last checkpoint is of step {latest}'
        return Diverged(
            f'loss or gradient became infinite or NaN between steps {since} and {step}; {left}. Lower '
            'optimizer.learning_rate, or set optimizer.clip_norm or optimizer.skip_nonfinite, in another --workdir'
        )

    def save(self) -> None:
        """Saves the state. Raises Diverged where it is not finite."""
        self.read()
        self.checked(self.sums, self.step)
        self.checkpoints.save(self.step, to_items(self.state, self.sums))

    def report(self, split: str, metrics: dict[str, float], average) -> None:
        """Writes metrics of the current step, and pictures by averaged variables."""
        self.writer.images(self.step, self.evaluation.figures(average))
        self.writer.scalars(self.step, split, metrics)  # After the pictures: the line marks them as written.
        if is_first():
            self.writer.images(self.step, {'curves': figures.curves(self.workdir, self.task.curves)})
            shown = '  '.join(f'{name} {metrics[name]:.4g}' for name in self.task.headline)
            self.progress.write(f'step {self.step}  {split}: {shown}')

    def finish(self) -> dict[str, Any]:
        """Evaluates fully and writes results.json."""
        if self.evaluation.split != 'test':
            self.evaluate()
        average, step = self.best.restore(self.state.average) if self.best else (self.state.average, self.step)
        results = self.evaluation.results(average, self.constants, self.stop.poll, step=step, trained=self.step)
        if not self.writer.has(self.step, 'test'):
            self.report('test', numbers(results), average)
        on_first(lambda: workdir_lib.write_json(self.workdir / workdir_lib.RESULTS, results))
        return results


def to_items(state: TrainState, sums) -> dict[str, Any]:
    """The two parts of a checkpoint: the average, which evaluation needs, and the rest."""
    rest = state._asdict()
    return {'average': rest.pop('average'), 'training': rest | {'sums': sums}}


def from_items(items: dict[str, Any]) -> tuple[TrainState, Any]:
    """The state and the sums."""
    rest = dict(items['training'])
    sums = rest.pop('sums')
    return TrainState(**rest, average=items['average']), sums


def parameter_table(params) -> str:
    return parameter_overview.get_parameter_overview(params, include_stats=False)


def train(task: Task, workdir: pathlib.Path, profile: int = 0) -> dict[str, Any]:
    """Trains `task` in `workdir`, resuming from its latest checkpoint, and returns the final results.

    `workdir` is locked meanwhile. The runs that the configuration names are copied into it, and the copies are used.
    `profile` is the number of steps to trace.

    Raises:
        UserError: something in the configuration, the data or the work directory is wrong.
        Interrupted: a signal asked to stop; the state is saved.
        Diverged: loss or gradient is not finite; the last checkpoint is from before.
    """
    check(task)
    if task.config.init_from and last_step(workdir) is None:
        workdir_lib.named_run(task.config, 'init_from')
    task = workdir_lib.filled_from_data(task, workdir)
    stop = StopRequest()
    with workdir_lib.locked(workdir):
        on_first(lambda: workdir_lib.init_workdir(task, workdir))
        task = dataclasses.replace(task, config=workdir_lib.use_local_copies(task.config, workdir))
        run = Run(task, workdir, stop, profile)  # Until here there is nothing to save: a signal just ends the process.
        with stop:
            return run.go()
