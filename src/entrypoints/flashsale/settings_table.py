"""The table of all settings in `docs/settings.md`, written from the class.

python -m flashsale.settings_table > docs/settings.md
"""

import sys

import attrs

from flashsale.settings import Settings
from flashsale.settings_loading import CONFIG_VARIABLE, shown, variable_of

HEAD = f"""\
# Settings

Every setting of `flashsale`, written from the class (`python -m flashsale.settings_table`).

A setting is read from, each over the one before: its default; the TOML file that
`{CONFIG_VARIABLE}` names, where `FLASHSALE_HTTP_PORT` is called `http_port`; the environment; the
command line. Whatever is wrong, missing or unknown is reported at once, in one message, and stops
the start. `flashsale settings` shows each value, secrets masked, with its source.

In a Kubernetes pod set `enableServiceLinks: false`: for a Service called `flashsale` the cluster
puts variables of its own that begin with `FLASHSALE_` into every pod, and they are no settings.

| setting | default | what it is |
|---|---|---|
"""


def table() -> str:
    """Write the page."""
    rows = [
        f"| `{variable_of(field.name)}` | {_code(shown(getattr(Settings(), field.name)))} "
        f"| {_help(field)} |\n"
        for field in attrs.fields(Settings)
    ]
    return HEAD + "".join(rows)


def _code(value: str) -> str:
    return f"`{value}`" if value else "none"


def _help(field: "attrs.Attribute[object]") -> str:
    text = field.metadata["help"].replace("|", "\\|")
    return f"{text} A secret." if field.metadata["is_secret"] else text


if __name__ == "__main__":
    sys.stdout.write(table())
