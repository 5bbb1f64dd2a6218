"""Reads the settings from where they may stand, and reports everything that is wrong at once."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import attrs
import typed_settings
from typed_settings.exceptions import TsError
from typed_settings.types import LoadedSettings, LoaderMeta, OptionInfo

from flashsale.setting_kinds import MASK
from flashsale.settings import Entrypoint, Settings
from flashsale.settings_rules import problems_of

PREFIX = "FLASHSALE_"
CONFIG_VARIABLE = "FLASHSALE_CONFIG"
"""Names the TOML file."""
NOT_OURS = ("FLASHSALE_TEST_", "FLASHSALE_SERVERS_HOME")
"""Variables of the test suite, which may stand in the environment of a program under test."""
DEFAULT, ENVIRONMENT, OVERRIDE = "default", "environment", "command line"


class SettingsError(Exception):
    """The settings are wrong; the message lists everything, a line each."""

    def __init__(self, problems: Iterable[str]) -> None:
        """Keep the lines."""
        self.problems = tuple(problems)
        count = len(self.problems)
        head = "1 setting is wrong:" if count == 1 else f"{count} settings are wrong:"
        super().__init__("\n  ".join([head, *self.problems]))


@attrs.frozen(kw_only=True)
class SettingRow:
    """One setting as it is shown to a person; a secret's value is masked."""

    variable: str
    value: str
    source: str
    default: str
    help: str


@attrs.frozen(kw_only=True)
class Reading:
    """The settings, and where each came from."""

    settings: Settings
    sources: Mapping[str, str]

    def rows(self) -> list[SettingRow]:
        """Show every setting, masked, in the order of the class."""
        return [
            SettingRow(
                variable=variable_of(field.name),
                value=shown(getattr(self.settings, field.name)),
                source=self.sources.get(field.name, DEFAULT),
                default=shown(getattr(Settings(), field.name)),
                help=field.metadata["help"],
            )
            for field in attrs.fields(Settings)
        ]


def load_settings(
    entrypoint: Entrypoint, overrides: Mapping[str, object] | None = None
) -> Settings:
    """Read and check the settings of a program. Raises SettingsError."""
    return read_settings(entrypoint, overrides).settings


def read_settings(entrypoint: Entrypoint, overrides: Mapping[str, object] | None = None) -> Reading:
    """Read the settings: the defaults, over them the file, the environment, `overrides`.

    An override of None counts as absent. Raises SettingsError with all that is wrong.
    """
    problems: list[str] = list(_unknown_variables())
    options = _options()
    layers = [
        *_file_layers(options, problems),
        _environment_layer(options),
        _override_layer(overrides or {}, problems),
    ]
    merged: dict[str, tuple[Any, LoaderMeta]] = {}
    for layer in layers:
        for key, value in layer.settings.items():
            merged[key] = (value, layer.meta)
    converted = _convert(options, merged, problems)
    # Rules look at values that are valid; what is broken by itself stands at its default there,
    # so that one message holds both kinds.
    settings = Settings(**converted)
    broken = {option.path for option in options} & (merged.keys() - converted.keys())
    problems += [
        _line(variable_of(name), rule)
        for name, rule in problems_of(settings, entrypoint)
        if name not in broken
    ]
    if problems:
        raise SettingsError(problems)
    return Reading(settings=settings, sources={key: meta.name for key, (_, meta) in merged.items()})


def check(settings: Settings, entrypoint: Entrypoint) -> None:
    """Check settings that were built by a program. Raises SettingsError."""
    problems = problems_of(settings, entrypoint)
    if problems:
        raise SettingsError(_line(variable_of(name), rule) for name, rule in problems)


def variable_of(name: str) -> str:
    """Name the environment variable of a setting."""
    return PREFIX + name.upper()


def shown(value: object) -> str:
    """Write a value for a person: secrets masked, nothing as an empty text."""
    if value is None or value == ():
        return ""
    if isinstance(value, typed_settings.Secret):
        return MASK
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return str(value)


def _line(variable: str, rule: str) -> str:
    return f"{variable}: {rule}"


def _known() -> list[str]:
    return [field.name for field in attrs.fields(Settings)]


def _unknown(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return (
        f"there is no such setting; did you mean {close[0]}?"
        if close
        else ("there is no such setting; `flashsale settings` lists them all")
    )


def _unknown_variables() -> Iterator[str]:
    known = [variable_of(name) for name in _known()]
    for variable in sorted(os.environ):
        is_ours = variable.startswith(PREFIX) and not variable.startswith(NOT_OURS)
        if is_ours and variable not in (CONFIG_VARIABLE, *known):
            yield _line(variable, _unknown(variable, known))


def _options() -> tuple[OptionInfo, ...]:
    """List the settings for typed-settings, one option each.

    Its own list takes a value of several parts, as a URL is, for a group of settings.
    """
    return tuple(
        OptionInfo(
            parent_cls=Settings,
            path=field.name,
            cls=str,
            default=field.default,
            has_no_default=False,
            default_is_factory=False,
            is_secret=field.metadata["is_secret"],
            converter=cast("Callable[[Any], Any]", field.converter),
        )
        for field in attrs.fields(Settings)
    )


def _file_layers(options: tuple[OptionInfo, ...], problems: list[str]) -> list[LoadedSettings]:
    named = os.environ.get(CONFIG_VARIABLE)
    if named is None:
        return []
    path = Path(named)
    try:
        found = typed_settings.TomlFormat(None)(path, Settings, options)
    except (TsError, OSError, UnicodeDecodeError) as exc:
        problems.append(_line(CONFIG_VARIABLE, f"cannot be read as TOML: {exc}"))
        return []
    known = _known()
    problems += [
        _line(f"{path}: {key}", _unknown(key, known)) for key in sorted(found) if key not in known
    ]
    kept = {key: value for key, value in found.items() if key in known}
    return [LoadedSettings(kept, LoaderMeta(f"file {path}"))]


def _environment_layer(options: tuple[OptionInfo, ...]) -> LoadedSettings:
    loaded = typed_settings.EnvLoader(PREFIX)(Settings, options)
    return LoadedSettings(loaded.settings, LoaderMeta(ENVIRONMENT))


def _override_layer(overrides: Mapping[str, object], problems: list[str]) -> LoadedSettings:
    known = _known()
    problems += [_line(key, _unknown(key, known)) for key in sorted(overrides) if key not in known]
    kept = {key: value for key, value in overrides.items() if key in known and value is not None}
    return LoadedSettings(kept, LoaderMeta(OVERRIDE))


def _convert(
    options: tuple[OptionInfo, ...],
    merged: Mapping[str, tuple[Any, LoaderMeta]],
    problems: list[str],
) -> dict[str, Any]:
    converted: dict[str, Any] = {}
    for option in options:
        if option.path not in merged or option.converter is None:
            continue
        value, meta = merged[option.path]
        try:
            converted[option.path] = option.converter(value)
        except ValueError as broken:
            # A URL may hold a password.
            hides = option.is_secret or option.path.endswith("_url")
            shows = "" if hides else f" (it is {value!r})"
            source = "" if meta.name == ENVIRONMENT else f", from the {meta.name}"
            problems.append(_line(variable_of(option.path), f"{broken}{shows}{source}"))
    return converted
