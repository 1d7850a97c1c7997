"""The options of all commands that say which server is meant, and what they lead to."""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from origin.cli.start import DEMO_RTMP_PORT
from origin.config import load
from origin.config.options import Config, data_folder
from origin.config.own_addresses import own_address
from packager.library.local_storage import CONFIGURATION
from packager.process.ffmpeg_discovery import ToolsError, discover
from packager.safe_files import DataFolder

DEFAULT_CONFIG = Path(CONFIGURATION)

Command = Callable[..., Any]

CONFIG = click.option(
    "--config", "file", type=click.Path(path_type=Path), help="TOML file. [default: headwater.toml]"
)
INSECURE = click.option(
    "--insecure", "is_insecure", is_flag=True, help="Take any certificate of the server's."
)
_DEMO = click.option("--demo", "is_demo", is_flag=True, help="The server is that of 'serve --demo'.")
_TO = click.option(
    "--to", help="The running server.  [default: where it says that it is, or the configuration]"
)
TOKEN = click.option("--token", help="Its admin token.  [default: the configured or kept one]")


@dataclass(frozen=True)
class AddressedServer:
    """The server that a command is about, by the command's options.

    Attributes:
        file: its configuration file; None without one.
        is_demo: whether it is that of ``serve --demo``.
        to: scheme, host and port of the running server; None where nothing is said.
        token: its admin token; None where nothing is said.
        is_insecure: whether any certificate is trusted.
    """

    file: Path | None
    is_demo: bool = False
    to: str | None = None
    token: str | None = None
    is_insecure: bool = False

    @functools.cached_property
    def config(self) -> Config:
        """The server's configuration. Blocks.

        Raises:
            ConfigError: it is wrong.
        """
        config = load_config(self.file, {})
        return _demo_config(config, named_options(self.file, {})) if self.is_demo else config

    @functools.cached_property
    def config_with_secrets(self) -> Config:
        """The configuration with the secrets that the server keeps in plain. Blocks.

        Raises:
            SecretsError: the file of secrets isn't to be trusted.
        """
        # Here and not above: it imports what reads media, which most commands don't need.
        from origin.config.kept_secrets import with_kept_secrets

        return with_kept_secrets(self.config, self.folder)

    @property
    def names_library(self) -> bool:
        """Whether the configuration names a library."""
        return ("library", "path") in named_options(self.file, {})

    @property
    def folder(self) -> DataFolder | None:
        """The folder of the server's secrets and of its address; None where it keeps none."""
        return server_folder(self.config, is_demo=self.is_demo)

    @functools.cached_property
    def address(self) -> str:
        """The URL at which programs on this machine reach the server, without a slash. Blocks.

        Raises:
            CommandError: nothing says where it is.
        """
        if self.to is not None:
            if not self.to.startswith(("http://", "https://")):
                raise click.UsageError("--to names a server such as http://127.0.0.1:8000.")
            return self.to.rstrip("/")
        return self.running_address or own_address(self.config)

    @functools.cached_property
    def running_address(self) -> str:
        """The address that the server has left in its folder; empty where none runs. Blocks."""
        from origin.system.address_file import running_address

        return "" if self.folder is None else running_address(self.folder)

    def trust(self) -> ssl.SSLContext:
        """Return settings by which the server is verified. Blocks."""
        from origin.tls.client_trust import own_context, trusted_context

        is_own = self.to is None and self.address.startswith("https:") and not self.is_insecure
        return own_context(self.config) if is_own else trusted_context(is_insecure=self.is_insecure)

    @property
    def admin_token(self) -> str:
        """The administrator's token.

        Raises:
            UsageError: nothing says it.
        """
        token = self.config_with_secrets.server.admin_token if self.token in (None, "") else self.token
        if token not in (None, ""):
            return token
        raise click.UsageError("The server's admin token is needed: server.admin_token, or --token.")


def configured_server(command: Command) -> Command:
    """Decorate a command with the options of a server that needn't run, as an argument `server`."""
    return CONFIG(_DEMO(_with_server(command)))


def running_server(command: Command) -> Command:
    """Decorate a command with the options of a running server, as an argument `server`."""
    return CONFIG(_DEMO(_TO(INSECURE(_with_server(command)))))


def server_folder(config: Config, *, is_demo: bool) -> DataFolder | None:
    """Return where a server keeps its secrets and its address; None where it keeps none."""
    if config.server.data or not is_demo:
        return data_folder(config)
    # Here and not above: it imports ffmpeg's part, which most commands don't need.
    from origin.server.demo import secrets_folder

    return DataFolder(secrets_folder())


def load_config(file: Path | None, options: load.Layer) -> Config:
    """Read the configuration of all layers.

    Raises:
        ConfigError: it is wrong.
    """
    return load.load(file, os.environ, options)


def config_file(file: Path | None) -> Path | None:
    """Return the configuration file: the named one, or ``headwater.toml`` of this folder if that exists."""
    return DEFAULT_CONFIG if file is None and DEFAULT_CONFIG.is_file() else file


def named_options(file: Path | None, options: load.Layer) -> set[tuple[str, str]]:
    """Return which options of sections are configured anywhere; for some others the demo has its own."""
    layers = [options, load.read_environment(os.environ)]
    layers += [] if file is None else [load.read_file(file)]
    return {
        (section, key)
        for layer in layers
        for section, table in layer.items()
        if isinstance(table, dict)
        for key in table
    }


def _demo_config(config: Config, named: set[tuple[str, str]]) -> Config:
    """Return the configuration of a demo, whose media may not be made yet."""
    from origin.server.demo import demo_config
    from packager.library.demo_media import cache_folder, folder

    if ("server", "rtmp_port") not in named:
        server = msgspec.structs.replace(config.server, rtmp_port=DEMO_RTMP_PORT)
        config = msgspec.structs.replace(config, server=server)
    own_library = ("library", "path") in named
    try:
        media = folder(cache_folder(), asyncio.run(discover()))
    except ToolsError:
        # No demo can run without ffmpeg; what else is configured can be looked at.
        media, own_library = Path(), True
    return demo_config(config, media, own_library=own_library)


def _with_server(command: Command) -> Command:
    """Put an `AddressedServer` in the place of a command's options."""

    @functools.wraps(command)
    def run(
        file: Path | None,
        is_demo: bool,
        to: str | None = None,
        token: str | None = None,
        is_insecure: bool = False,
        **others: Any,  # click's way to pass options
    ) -> Any:
        server = AddressedServer(config_file(file), is_demo, to, token, is_insecure)
        return command(server=server, **others)

    return run
