"""The ways a run ends early; common/cli.py turns each into one line and an exit code."""

import signal
import sys


class UserError(Exception):
    """A mistake of the user's: one line with what is wrong and what to do, printed without a traceback."""


class Diverged(Exception):
    """Loss or gradient is no longer finite."""


class PeerLost(Exception):
    """Another process of the run has died."""


class Incomplete(Exception):
    """Part of the work could not be done; the output that exists is valid."""


class Interrupted(Exception):
    """Signal `signum` stopped the run, which has saved its state at `step`."""

    def __init__(self, step: int, signum: int):
        super().__init__(
            f'stopped at step {step} by {signal.Signals(signum).name}; the state is saved: '
            'start the same command again to resume'
        )
        self.signum = signum


def notice(text: str) -> None:
    """Prints one line to stderr that is not an error."""
    print(text, file=sys.stderr)


def check_choice(name: str, value: object, choices) -> None:
    """Raises UserError unless `value` is one of `choices`; `name` is the config key."""
    if value not in choices:
        raise UserError(f'{name} is {value!r}; choose one of {", ".join(map(repr, choices))}')
