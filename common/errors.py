"""How a run ends before its end; common/cli.py turns each into one line and an exit code."""

import signal
import sys


class UserError(Exception):
    """Says what is wrong and what to do about it, in one line, without a traceback."""


class Diverged(Exception):
    """Loss or gradient is no longer finite."""


class PeerLost(Exception):
    """Another process of the run has gone."""


class Incomplete(Exception):
    """Some of what was asked for could not be done; what is there is right."""


class Interrupted(Exception):
    """The run was asked by signal `signum` to stop, and has saved its state at `step`."""

    def __init__(self, step: int, signum: int):
        super().__init__(f'stopped at step {step} by {signal.Signals(signum).name}; the state is saved: '
                         'start the same command again to go on')
        self.signum = signum


def notice(text: str) -> None:
    """Tells the user something that is not an error, in one line."""
    print(text, file=sys.stderr)


def check_choice(name: str, value: object, choices) -> None:
    """Raises UserError unless `value` is one of `choices`; `name` is the config key."""
    if value not in choices:
        raise UserError(f'{name} is {value!r}; choose one of {", ".join(map(repr, choices))}')
