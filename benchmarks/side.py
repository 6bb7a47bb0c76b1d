"""Runs each side in a process of its own, so that the two share neither threads nor memory."""

import importlib
import multiprocessing
import os
import traceback
import unittest.mock

from common import cpu
from common.errors import UserError


class Side:
    """An object in another process. Calling the side calls a method of the object.

    Args:
        module, name: the class, which only the other process imports.
        args: the arguments of its constructor.
        huge_pages: whether the process uses huge pages, as main.py does.
    Raises:
        UserError: the constructor or a called method raised, or the process has died.
    """

    def __init__(self, module: str, name: str, *args, huge_pages: bool = True):
        os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # Both sides share its memory.
        os.environ['TORCHINDUCTOR_FORCE_DISABLE_CACHES'] = '1'  # So that a first step always compiles.
        os.environ['JAX_ENABLE_COMPILATION_CACHE'] = 'false'
        cpu.configure()
        context = multiprocessing.get_context('spawn')
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, module, name, args))
        with unittest.mock.patch.dict(os.environ, {'GLIBC_TUNABLES': cpu.HUGE_PAGES if huge_pages else ''}):
            self.process.start()
        other.close()
        self.answer()

    def __call__(self, method: str, *args):
        """The method's result."""
        return self.answer((method, args))

    def answer(self, *calls):
        """Sends the calls and returns the answer."""
        try:
            for call in calls:
                self.connection.send(call)
            result, error = self.connection.recv()
        except (EOFError, ConnectionError) as closed:
            self.process.join()
            raise UserError(f'the process ended with exit code {self.process.exitcode}') from closed
        if error:
            raise UserError(error)
        return result

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Ends the process and frees its memory."""
        self.connection.close()
        self.process.join()


def serve(connection, module: str, name: str, args: tuple) -> None:
    """Answers calls until the connection is closed; runs in the other process."""
    try:
        served = attempt(connection, lambda: getattr(importlib.import_module(module), name)(*args), False)
        while served is not None:
            method, values = connection.recv()
            attempt(connection, lambda method=method, values=values: getattr(served, method)(*values))
    except (EOFError, KeyboardInterrupt):
        pass


def attempt(connection, call, send: bool = True):
    """Returns the result of `call`, and sends it if `send`; sends a message and returns None if it raised."""
    try:
        result = call()
    except Exception as error:
        first = str(error).strip().splitlines() or ['']
        where = traceback.extract_tb(error.__traceback__)[-1]
        connection.send((None, f'{type(error).__name__} in {where.name}: {first[0][:200]}'))
        return None
    connection.send((result if send else None, None))
    return result
