"""Configurations: their types and limits, the defaults that complete them, and how two of them differ."""

from collections.abc import Mapping
import functools
import json
import math
from typing import Any

from ml_collections import ConfigDict

from common.errors import UserError, check_choice, notice


def checked(config: ConfigDict, defaults: ConfigDict) -> ConfigDict:
    """The configuration with every key of `defaults`, checked.

    A key that is missing gets its default, and one line says so: the code has gained it since the file was written.

    Raises:
        UserError: a key is unknown, or a value has another type than its default or is out of range.
    """
    config = completed(config, defaults)
    values: dict[str, Any] = flatten(config)
    examples = flatten(defaults)
    for name, example in examples.items():
        if not same_type(values[name], example):
            raise UserError(f'{name} is {values[name]!r}; it must be like {example!r}')
    check_choice('dtype', config.dtype, ('float32', 'bfloat16'))
    for name in ('num_epochs', 'batch_size', 'eval_batch_size', 'log_every_steps', 'data.image_size'):
        if values[name] < 1:
            raise UserError(f'{name} is {values[name]}; it must be at least 1')
    for name in ('seed', 'eval_every_epochs', 'steps_per_dispatch', 'data.validation_examples'):
        if values[name] < 0:
            raise UserError(f'{name} is {values[name]}; it must not be negative')
    if config.seed >= 2**32:
        raise UserError(f'seed is {config.seed}; it must be below 2^32')
    return config


def completed(config: ConfigDict, defaults: ConfigDict) -> ConfigDict:
    """A copy of `config` with the missing keys taken from `defaults`. Raises UserError for unknown keys."""
    values, examples = flatten(config), flatten(defaults)
    unknown = sorted(set(values) - set(examples))
    if unknown:
        raise UserError(
            f'the configuration has an unknown key {unknown[0]!r}: another version of the program wrote '
            'it, or it was changed by hand; remove the key, or use that version'
        )
    missing = {name: examples[name] for name in sorted(set(examples) - set(values))}
    if missing:
        notice_once(
            'the configuration lacks '
            + ', '.join(f'{name} (now {value!r})' for name, value in missing.items())
            + ': taken from the defaults'
        )
    return ConfigDict(nested(missing | values))


@functools.cache
def notice_once(text: str) -> None:
    """A notice that a report over many runs prints once."""
    notice(text)


def nested(values: Mapping[str, object]) -> dict[str, object]:
    """Dotted names as nested dictionaries: the inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *sections, key = name.split('.')
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[key] = value
    return tree


def same_type(value: object, example: object) -> bool:
    """Whether a value has the type of an example; an integer may stand for a float. Lists hold numbers or strings."""
    if isinstance(example, list):
        kind = example[0] if example else ''
        return isinstance(value, list) and all(
            same_type(element, '' if isinstance(kind, str) else 1.0) for element in value
        )
    return type(value) in ({int, float} if isinstance(example, float) else {type(example)})


def differences(stored: ConfigDict, config: ConfigDict) -> list[str]:
    """What differs between two configurations, in words.

    Where data and other runs are found may differ, but not whether another run is named; also the batch of evaluation,
    and what `config` leaves to the data.
    """
    old, new = flatten(stored), flatten(config)
    names = sorted(old | new, key=lambda name: (name not in new, name not in old, name))
    return [
        f'{name} was {old.get(name)!r} and is now {new.get(name)!r}'
        for name in names
        if old.get(name) != new.get(name)
        and not (name == 'eval_batch_size' or (is_location(name) and not one_is_empty(name, old, new)))
        and not left_to_data(new.get(name), old.get(name))
    ]


def one_is_empty(name: str, old: Mapping[str, object], new: Mapping[str, object]) -> bool:
    """Whether only one of two flat configurations names another run under a key."""
    return name.endswith('_workdir') and bool(old.get(name)) != bool(new.get(name))


def is_open(value: object) -> bool:
    """Whether a value is left to the data: an empty list, or class weights that are to be balanced."""
    return value in ([], (), 'balanced')


def left_to_data(new: object, old: object) -> bool:
    """Whether the stored value `old` may be what the data gave for `new`; balanced weights are never ''."""
    return is_open(new) and not (new == 'balanced' and old == '')


def filled(config: ConfigDict, values: Mapping[str, object]) -> ConfigDict:
    """A copy of the configuration with other values, by dotted name."""
    return ConfigDict(nested(flatten(config) | dict(values)))


def with_stored(config: ConfigDict, stored: ConfigDict) -> ConfigDict:
    """The configuration with the values of a stored one where it leaves them to the data."""
    old, new = flatten(stored), flatten(config)
    known = {
        name: old[name] for name in new if left_to_data(new[name], old.get(name)) and not is_open(old.get(name, []))
    }
    return filled(config, known) if known else config


def is_location(name: str) -> bool:
    """Whether a key says where something is found; two starts of a run may differ in it."""
    return name in ('data.dir', 'data.manual_dir') or name.endswith('_workdir')


def flatten(config: ConfigDict) -> dict[str, object]:
    """Dotted names to values, as JSON gives them back: tuples are lists."""
    flat: dict[str, object] = {}
    for name, value in json.loads(config.to_json_best_effort()).items():
        inner = flatten(ConfigDict(value)) if isinstance(value, dict) else None
        flat |= {name: value} if inner is None else {f'{name}.{key}': v for key, v in inner.items()}
    return flat


def jsonable(values: Mapping[str, object]) -> dict[str, object]:
    """NaN and infinity become null: JSON has neither."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
