"""The error that a user can mend: main.py prints it in one line and exits with code 2."""


class UserError(Exception):
    """Says what is wrong and what to do about it, in one line, without a traceback."""


def check_choice(name: str, value: object, choices) -> None:
    """Raises UserError unless `value` is one of `choices`; `name` is the config key."""
    if value not in choices:
        raise UserError(f'{name} is {value!r}; choose one of {", ".join(map(str, choices))}')
