"""The configuration's sources: a file, the environment and the command line, put together and checked.

Later ones win: defaults < ``headwater.toml`` < ``HEADWATER_SECTION_KEY`` < options. A key that isn't known
or a value of the wrong type is one ``ConfigError`` that names the source, the key and what is allowed.
Paths in the file are relative to the file's folder, others to the folder where the command was started.
"""

from __future__ import annotations

import stat
import tomllib
import typing
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from origin.config import live_channels, stations
from origin.config.options import (
    GAPS,
    SELF_SIGNED,
    Config,
    ConfigError,
    EventOptions,
    ServerOptions,
    event_templates,
    has_signed,
    secrets_in,
)
from origin.config.section import shown_value
from origin.config.validation_messages import (
    GONE_KEYS,
    allowed_keys,
    explain,
    question,
    reason,
    similar_key,
    without_constraints,
)
from origin.http.channel_patterns import ALLOWED, RESERVED, is_template
from origin.http.trusted_proxies import TrustedProxies

ENVIRONMENT_PREFIX = "HEADWATER_"

Layer = Mapping[str, Any]
"""One source's values: section name → table, or list of tables for live, radio and events."""


def load(path: Path | None, environment: Mapping[str, str], options: Layer) -> Config:
    """Read and validate all sources.

    Args:
        environment: variables, of which those with the prefix count.
        options: the options of the command line.

    Raises:
        ConfigError: a source can't be read, or has an unknown key or a wrong value.
    """
    merged: dict[str, Any] = {}
    layers = [] if path is None else [(str(path), read_file(path))]
    layers += [("the environment", read_environment(environment)), ("the command line", options)]
    for origin, layer in layers:
        validate(layer, origin)
        if path is not None and layer is layers[0][1]:
            layer = _resolved(layer, path)
        for section, value in layer.items():
            merged[section] = {**merged.get(section, {}), **value} if isinstance(value, Mapping) else value
    config = validate(merged, "the configuration")
    check_together(config)
    return config


def read_file(path: Path) -> Layer:
    """Read a TOML file.

    Raises:
        ConfigError: the file is missing, can't be read, or isn't TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name the file with --config") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: it isn't text in UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def _resolved(layer: Layer, file: Path) -> Layer:
    """Replace the paths in a file's values, which are valid, by those relative to the file's folder."""
    layer = deepcopy(dict(layer))
    for _, table, key in _relative_paths(layer):
        table[key] = str(file.parent / table[key])
    return layer


def _relative_paths(layer: Layer) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the section, the table and the key of each relative path in a file's values."""
    stations = {table.get("name") for table in layer.get("radio", ())}
    for section, keys in _PATHS.items():
        found = layer.get(section, {})
        for table in found if isinstance(found, list) else (found,):
            for key in keys:
                value = table.get(key, "")
                is_named = value in _NO_PATHS.get((section, key), ()) or (
                    (section, key) == ("radio", "fallback") and value in stations
                )
                if value and not is_named and "://" not in value and not value.startswith(("/", "~")):
                    yield section, table, key


def moved_paths(file: Path) -> Iterator[str]:
    """Find paths in a file that earlier versions took as relative to the current folder, and found there.

    Yields:
        One line for each that exists there, beginning with its key.

    Raises:
        ConfigError: the file can't be read.
    """
    for section, table, key in _relative_paths(read_file(file)):
        meant, former = file.parent / table[key], Path(table[key])
        try:
            moved = former.exists() and not (meant.exists() and meant.samefile(former))
        except (OSError, ValueError):
            continue
        if moved:
            place = f"{section} {table['name']!r}: {key}" if "name" in table else f"{section}.{key}"
            yield f"{place}: means {meant}, beside the configuration, and not {former.absolute()}"


def read_environment(environment: Mapping[str, str]) -> Layer:
    """Read ``HEADWATER_SECTION_KEY`` variables; values are text and converted by the key's type.

    Raises:
        ConfigError: a variable with the prefix names no key.
    """
    layer: dict[str, dict[str, Any]] = {}
    for variable in sorted(environment):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        section, _, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
        table = _tables().get(section)
        if told := GONE_KEYS.get(f"{section}.{key}"):
            raise ConfigError(f"{variable}: {told}")
        if table is None or key not in table.__struct_fields__:
            raise ConfigError(f"{variable}: no such option; {_allowed_variables(section, key)}")
        kind, text = typing.get_type_hints(table, include_extras=True)[key], environment[variable]
        is_list = typing.get_origin(without_constraints(kind)) is tuple
        items = [item.strip() for item in text.split(",") if item.strip()]
        try:
            value = msgspec.convert(items if is_list else text, kind, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{variable}: {reason(str(error), kind)}") from error
        layer.setdefault(section, {})[key] = value
    return layer


def validate(layer: Layer, origin: str) -> Config:
    """Check one source's values against the options.

    Args:
        origin: the name of the source in an error.

    Raises:
        ConfigError: naming the key and what is allowed.
    """
    try:
        return msgspec.convert(layer, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {explain(str(error))}") from error


def as_toml(config: Config) -> str:
    """Write the configuration as TOML, secrets blotted out; what ``--print-config`` shows."""
    lines: list[str] = []
    for section in Config.__struct_fields__:
        value = getattr(config, section)
        tables = [value] if isinstance(value, Struct) else value
        for table in tables:
            lines.append(f"[{section}]" if isinstance(value, Struct) else f"[[{section}]]")
            shown = (
                (key, shown_value(type(table), key, getattr(table, key))) for key in table.__struct_fields__
            )
            lines += [f"{key} = {_toml_value(value)}" for key, value in shown if value is not None]
            lines.append("")
    return "\n".join(lines)


def as_toml_table(section: str, table: Struct) -> str:
    """Write a table of a list of tables as TOML, with its secrets and without what is the default."""
    lines = [f"[[{section}]]"]
    for field in msgspec.structs.fields(table):
        value = getattr(table, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if value is not None and value != default:
            lines.append(f"{field.name} = {_toml_value(value)}")
    return "\n".join([*lines, ""])


def _toml_value(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_value(key)} = {_toml_value(one)}" for key, one in value.items()) + "}"
    return msgspec.json.encode(value).decode("utf-8")


def shows_secrets(path: Path) -> bool:
    """Return whether everybody on this machine can read a configuration file that has secrets."""
    return bool(path.stat().st_mode & stat.S_IROTH) and any(secrets_in(validate(read_file(path), str(path))))


def _allowed_variables(section: str, key: str) -> str:
    """Return the question which variable was meant by one that names no key, and what is allowed."""
    tables = _tables()
    if (table := tables.get(section)) is not None:
        meant, known = similar_key(key, table.__struct_fields__, tables), allowed_keys(table)
        meant = meant if "." in meant or not meant else f"{section}.{meant}"
    else:
        keys = [f"{name}.{one}" for name, table in tables.items() for one in table.__struct_fields__]
        # The section may be left out, or misspelt.
        left_out = similar_key(f"{section}_{key}".removesuffix("_"), (), tables)
        meant = left_out or similar_key(f"{section}.{key}", keys, {})
        known = ", ".join(f"{ENVIRONMENT_PREFIX}{name.upper()}_…" for name in tables)
    variable = f"{ENVIRONMENT_PREFIX}{meant.replace('.', '_').upper()}" if meant else ""
    return f"{question(variable)}allowed: {known}"


def _tables() -> dict[str, type[Struct]]:
    """The sections that are one table each, by name."""
    hints = typing.get_type_hints(Config)
    return {name: kind for name, kind in hints.items() if isinstance(kind, type) and issubclass(kind, Struct)}


def check_together(config: Config) -> None:
    """Check what tables and keys demand of each other. Blocks, to look for files.

    Raises:
        ConfigError: naming the table, the key and what is allowed.
    """
    for fault in stations.faults(config.radio, config.server):
        raise ConfigError(fault)
    _check_homes(config)
    try:
        TrustedProxies(config.server.trusted_proxies)
    except ValueError as error:
        raise ConfigError(f"server.trusted_proxies: {error}; allowed: addresses and networks") from error
    _check_server(config.server)
    _check_access(config)
    tables = {
        "live": [one.name for one in config.live],
        "radio": [one.name for one in config.radio],
        "events": [one.name for one in config.events],
        "relay": [one.name for one in config.relay],
    }
    for section, names in tables.items():
        for name, count in Counter(names).items():
            if count > 1:
                raise ConfigError(f"{section}: the name {name!r} is used twice; each {section} needs its own")
    _check_event_channels(config)
    _check_relays(config)
    urls = [one.url for one in config.webhooks]
    if len(set(urls)) < len(urls):
        raise ConfigError("webhooks: a URL is used twice; each webhook needs its own")
    for fault in live_channels.faults(config):
        raise ConfigError(fault)


_NO_PATHS = {
    ("live", "source"): ("publish", "testsrc"),
    ("live", "offline"): (GAPS,),
    ("tls", "certificate"): (SELF_SIGNED,),
}
"""Words that stand in the place of a path, and name none."""

_PATHS = {
    "server": ("data",),
    "tls": ("certificate", "key"),
    "library": ("path",),
    "log": ("access",),
    "live": ("source", "offline"),
    "radio": ("folder", "fallback", "intro"),
}
"""The keys of each section that may be paths."""


def _check_homes(config: Config) -> None:
    """Check that paths which begin with ``~`` name the home of a user whom there is."""
    for section, keys in _PATHS.items():
        found = getattr(config, section)
        for table in found if isinstance(found, tuple) else (found,):
            for key in keys:
                value = getattr(table, key)
                if value is None or not value.startswith("~"):
                    continue
                try:
                    Path(value).expanduser()
                except RuntimeError:
                    named = isinstance(found, tuple)
                    place = f"{section}: {key} of {table.name!r}" if named else f"{section}.{key}"
                    home = value.partition("/")[0]
                    allowed = "allowed: a user's, or a whole path"
                    raise ConfigError(f"{place}: {home!r} is nobody's home; {allowed}") from None


def _check_server(server: ServerOptions) -> None:
    if server.admin_port and not server.protected:
        raise ConfigError("server.admin_port: answers what server.protected names, and that is nothing")
    if server.admin_port and server.admin_port == server.port:
        raise ConfigError("server.admin_port: server.port is the same; they need to differ")


def _check_access(config: Config) -> None:
    ids = [key.partition(":")[0] for key in config.access.keys]
    if len(set(ids)) < len(ids):
        raise ConfigError("access.keys: an identifier is used twice; each key needs its own")
    if config.cluster.url and has_signed(config) and not ids:
        raise ConfigError("access.keys: is missing; all nodes of a cluster need the same keys")
    if config.access.jwt_keys:
        # Imported here, as that is slow, and most servers have no such keys.
        from origin.access.web_tokens import configured_keys

        try:
            configured_keys(config.access.jwt_keys)
        except ValueError as error:
            raise ConfigError(f"access.jwt_keys: {error}") from None


def _check_event_channels(config: Config) -> None:
    if len(config.events) > config.limits.event_channels:
        most = config.limits.event_channels
        raise ConfigError(f"events: {len(config.events)} channels; allowed: limits.event_channels, {most}")
    for template in event_templates(config):
        _check_template(template)
    for relaying in config.events:
        if relaying.relay is not None and not _is_http(relaying.relay):
            allowed = "an address that begins with http:// or https://, and has no signs that need encoding"
            raise ConfigError(f"events: relay of {relaying.name!r}: allowed: {allowed}")


def _check_relays(config: Config) -> None:
    taken = {one.name for one in config.events}
    for relay in config.relay:
        if relay.name in taken:
            raise ConfigError(f"relay: the name {relay.name!r} is an event channel's; allowed: another one")
        if not all(map(_is_http, relay.upstreams)):
            allowed = "addresses that begin with http:// or https://, and have no signs that need encoding"
            raise ConfigError(f"relay: upstreams of {relay.name!r}: allowed: {allowed}")
        if len(relay.weights) not in (0, len(relay.upstreams)):
            raise ConfigError(
                f"relay: weights of {relay.name!r}: allowed: none, or one for each of upstreams"
            )
        if len(relay.relay_keys) not in (0, 1, len(relay.upstreams)):
            allowed = "none, one for all, or one for each of upstreams"
            raise ConfigError(f"relay: relay_keys of {relay.name!r}: allowed: {allowed}")


def _check_template(template: EventOptions) -> None:
    """Refuse options that channels which are made at run time can't have."""
    if not is_template(template.name):
        allowed = f"{ALLOWED}, behind them '*', not below {RESERVED}"
        raise ConfigError(f"events: the name {template.name!r}: allowed: {allowed}")
    for key in ("access", "relay", "include"):
        if getattr(template, key) != getattr(EventOptions(template.name), key):
            raise ConfigError(
                f"events: {key} of {template.name!r}: not for channels that are made at run time"
            )


def _is_http(url: str) -> bool:
    """Return whether a text is the address of an HTTP server, as the client for HTTP understands it, too."""
    is_plain = all("!" <= sign <= "~" and sign != "\\" for sign in url)
    return is_plain and url.startswith(stations.SCHEMES) and stations.is_address(url)
