"""Ours and PyTorch's in processes of their own, so that neither threads nor memory of the two mix."""

import importlib
import multiprocessing
import os
import traceback
import unittest.mock

from common import cpu
from common.errors import UserError


class Side:
    """An object in another process; calling the side calls a method of the object.

    Args:
        module, name: the class, imported only there.
        args: of its constructor.
        huge_pages: whether its memory is to be in huge pages, as that of main.py is.
    Raises:
        UserError: the constructor or, when the side is called, the method raised; or the process has died.
    """

    def __init__(self, module: str, name: str, *args, huge_pages: bool = True):
        os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # An accelerator's memory is shared.
        os.environ['TORCHINDUCTOR_FORCE_DISABLE_CACHES'] = '1'  # A first step compiles, each time, on both sides.
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
        """What comes back once the calls are sent."""
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
    """Answers calls until the connection is closed."""
    try:
        served = attempt(connection, lambda: getattr(importlib.import_module(module), name)(*args), False)
        while served is not None:
            method, values = connection.recv()
            attempt(connection, lambda method=method, values=values: getattr(served, method)(*values))
    except (EOFError, KeyboardInterrupt):
        pass


def attempt(connection, call, send: bool = True):
    """Sends the result of `call`, or that it succeeded if the result is not to be sent, or what it raised."""
    try:
        result = call()
    except Exception as error:
        first = str(error).strip().splitlines() or ['']
        where = traceback.extract_tb(error.__traceback__)[-1]
        connection.send((None, f'{type(error).__name__} in {where.name}: {first[0][:200]}'))
        return None
    connection.send((result if send else None, None))
    return result
