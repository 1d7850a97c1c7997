"""The command line. The exit status is 0 for done, 1 for failed, 2 for wrong use; an error is one line.

Each command imports only what it needs, so that a server that was killed is back within two seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import click
import structlog
import uvloop

from media.errors import MediaError
from origin.cli import start
from origin.cli.addressed_server import (
    CONFIG,
    INSECURE,
    TOKEN,
    AddressedServer,
    config_file,
    configured_server,
    load_config,
    named_options,
    running_server,
)
from origin.config import load, logging_setup
from origin.config.errors import CommandError
from origin.config.options import Config, ConfigError, redactor_of
from packager.data_lock import DataInUseError
from packager.library.local_storage import NotFoundError
from packager.process.ffmpeg_discovery import ToolsError
from packager.redaction import Redactor, redact, secrets_of

if TYPE_CHECKING:
    from origin.server.services.limits import Limits

log = structlog.get_logger()

PUBLISH_KEY = "HEADWATER_PUBLISH_KEY"  # a name
"""The environment variable with the key of the channel that ``ingest`` publishes to."""

NEEDS_RESTART = 3
"""Exit status of a reload whose changes don't all have an effect yet."""

FAILED = 1
WRONG_USE = 2


def main(limits: Limits | None = None) -> None:
    """Run the command that this process was started with; `limits` are those that can't be configured."""
    sys.excepthook = _crash
    # Native code that crashes says at least in which Python line that was.
    with contextlib.suppress(RuntimeError, OSError):
        faulthandler.enable()
    # numpy's algebra, of which nothing is used, starts a thread for each processor when it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        cli.main(prog_name="headwater", standalone_mode=False, obj=limits)
    except click.exceptions.Abort:
        _end("stopped", FAILED)
    except click.exceptions.NoArgsIsHelpError as error:
        # Without any argument the help is shown instead of an error of one line.
        click.echo(error.format_message(), err=True)
        sys.exit(WRONG_USE)
    except click.ClickException as error:
        message = error.format_message().replace("\n", " ")
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "headwater"
        _end(
            f"{message} Try '{command} --help'." if error.exit_code == WRONG_USE else message, error.exit_code
        )
    except ConfigError as error:
        _end(str(error), WRONG_USE)
    except (CommandError, DataInUseError, ToolsError, MediaError, NotFoundError, OSError) as error:
        _end(_line_of(error), FAILED)


def _crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write the traceback of a mistake of ours, without secrets."""
    click.echo(redact("".join(traceback.format_exception(kind, error, trace))), err=True, nl=False)


def _line_of(error: Exception) -> str:
    """Describe an error in one line."""
    if isinstance(error, NotFoundError):
        return f"{error}: no such file"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _end(message: str, status: int) -> None:
    click.echo(f"headwater: {redact(message)}", err=True)
    sys.exit(status)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headwater", message="%(prog)s %(version)s")
def cli() -> None:
    """Headwater: a media streaming origin for files, HLS, live channels, radio and events."""


@cli.command()
@CONFIG
@click.option("--library", help="Folder of media files, or s3://bucket/prefix.")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.  [default: 8000]"
)
@click.option("--demo", is_flag=True, help="Make demo films, a live channel and a station, and serve them.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="How log lines are written.")
@click.option("--print-config", is_flag=True, help="Show the resulting configuration and end.")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.pass_obj
def serve(
    limits: Limits | None,
    file: Path | None,
    library: str | None,
    host: str | None,
    port: int | None,
    demo: bool,
    log_format: str | None,
    print_config: bool,
    verbose: bool,
) -> None:
    """Serve the library, live channels, stations and event channels."""
    options = _layer(
        server={"host": host, "port": port},
        library={"path": library},
        log={"format": log_format, "level": "debug" if verbose else None},
    )
    given, file = file, config_file(file)
    config = load_config(file, options)
    if print_config:
        click.echo(load.as_toml(config), nl=False)
        return
    named = named_options(file, options)
    own_library = ("library", "path") in named
    asks_for_rtmp = demo and bool(config.server.port) and ("server", "rtmp_port") not in named
    if asks_for_rtmp:
        rtmp_port = start.demo_rtmp_port(config.server.host)
        options = {**options, "server": {**options.get("server", {}), "rtmp_port": rtmp_port}}
        config = load_config(file, options)
    # The file is looked at before the process becomes another user, who may not be allowed to.
    is_shown_to_all = file is not None and load.shows_secrets(file)
    moved = [] if file is None else list(load.moved_paths(file))
    bound = start.prepare(config)
    logging_setup.configure(config.log.level, config.log.format, redactor_of(config))
    if is_shown_to_all:
        advice = f"take that from others: chmod 600 {file}"
        log.warning("the configuration has secrets, and everybody on this machine can read it", advice=advice)
    for line in moved:
        log.warning("a path in the configuration is relative to its file", reason=line)
    if asks_for_rtmp and not config.server.rtmp_port:
        taken = f"port {start.DEMO_RTMP_PORT} is in use"
        log.warning("the demo takes no RTMP", reason=taken, advice="set server.rtmp_port")

    def read() -> Config:
        return load_config(config_file(given), options)

    _run(
        lambda: start.serve(config, read, bound, demo=demo, own_library=own_library, file=file, limits=limits)
    )


@cli.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the result.")
@click.option("--single-file", is_flag=True, help="One file a rendition, its segments as byte ranges.")
@click.option("--ladder", type=click.Choice(["auto", "all"]), help="Encode renditions, too, as 'serve' does.")
@click.option("--queue", is_flag=True, help="Let 'headwater work' do it, here or on other machines.")
@click.option(
    "--config", "file", type=click.Path(path_type=Path), help="TOML file that says where the queue is."
)
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.pass_obj
def package(
    limits: Limits | None,
    inputs: tuple[Path, ...],
    out: Path,
    single_file: bool,
    ladder: Literal["auto", "all"] | None,
    queue: bool,
    file: Path | None,
    verbose: bool,
) -> None:
    """Make HLS and DASH of MP4 and MKV files ahead of time, for any web server, without encoding them again.

    With --ladder auto each film also gets H.264 and AAC where most browsers can't play it, and smaller
    pictures; with --ladder all also where they can. A run that was ended goes on where it was.

    INPUT is a file or a folder with all that is in it. Files named TITLE.720p.mp4, TITLE.480p.mp4 become one
    adaptive title as well. Films of an earlier run that haven't changed aren't made again.

    With --queue the films are packaged by each 'headwater work' that has the same [cluster] url, and sees the
    same files at the same paths. They go on when this command ends; repeating the command shows their
    progress.
    """
    logging_setup.configure("debug" if verbose else "info", "text")
    if file is not None and not queue:
        raise click.UsageError("--config says where the queue is; it needs --queue.")
    if queue:
        from origin.cli import jobs

        config = load_config(config_file(file), {})
        done = jobs.package(
            config, inputs, out, single_file=single_file, ladder=ladder, tell=_print_line, limits=limits
        )
        playlists, is_whole = done.playlists, done.is_whole
    else:
        playlists, is_whole = _package_here(inputs, out, single_file, ladder)
    for path in playlists:
        click.echo(path)
    if not is_whole:
        sys.exit(FAILED)


def _package_here(
    inputs: tuple[Path, ...], out: Path, single_file: bool, ladder: Literal["auto", "all"] | None
) -> tuple[list[str], bool]:
    """Package with a progress bar; return the playlists, and whether all inputs could be packaged."""
    from origin.cli.package_progress import PackageProgress
    from packager.export.export import ExportReport, export
    from packager.export.ladder import ladder_of

    renditions = None
    if ladder is not None:
        from packager.process.ffmpeg_discovery import discover

        renditions = ladder_of(ladder, asyncio.run(discover()))
    with contextlib.closing(PackageProgress()) as shown:

        def print_line(line: str) -> None:
            shown.close()
            _print_line(line)

        report = ExportReport(
            shown.show,
            lambda line: print_line(f"left out: {line}"),
            lambda error: print_line(_line_of(error)),
            shown.pace.plan,
            shown.pace.add,
        )
        outcome = export(inputs, out, report, single_file=single_file, ladder=renditions)
    return [*map(str, outcome.playlists)], not outcome.failures


def _print_line(line: str) -> None:
    click.echo(f"headwater: {redact(line)}", err=True)


@cli.command()
@CONFIG
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.pass_obj
def work(limits: Limits | None, file: Path | None, verbose: bool) -> None:
    """Package films that 'headwater package --queue' has queued, until SIGTERM or Ctrl-C.

    Any number of these, on any machines that see the same files at the same paths, share the work. If one
    ends or is killed, others continue its jobs.
    """
    from origin.cli import jobs

    config = load_config(config_file(file), {"log": {"level": "debug"}} if verbose else {})
    logging_setup.configure(config.log.level, config.log.format, redactor_of(config))
    _run(lambda: jobs.work(config, limits))


@cli.command()
@click.argument("url")
@click.option(
    "--most",
    type=click.IntRange(min=2),
    default=1000,
    show_default=True,
    help="Segments of what is finite that are read, evenly from all of it.",
)
@click.option("--strict", "is_strict", is_flag=True, help="Let notes decide the exit status, too.")
@click.option("--json", "as_json", is_flag=True, help="Write the result as JSON.")
@INSECURE
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def check(  # click's way to pass options
    url: str, most: int, is_strict: bool, as_json: bool, is_insecure: bool, verbose: bool
) -> None:
    """Judge the playlists, segments and ranges of any origin against the standards.

    URL is a playlist, a DASH manifest or a file, or a folder that was packaged. Each segment of what is
    finite is read, and compared with what the playlist says. A finding that breaks a MUST is a fault, and
    the exit status is 1 then; a finding that breaks a SHOULD alone is a note.
    """
    from origin.cli import check as judge

    redactor = Redactor.of(secrets_of(url))
    logging_setup.configure("debug" if verbose else "info", "text", redactor)
    shows_progress = sys.stderr.isatty()

    def show(line: str) -> None:
        if shows_progress:
            # The line before is erased (ECMA-48 §8.3.41).
            shown = redactor.without_known(line)[: shutil.get_terminal_size().columns - 1]
            click.echo(f"\r\x1b[K{shown}", nl=False, err=True)

    try:
        report = asyncio.run(judge.check(url, most, show, is_insecure=is_insecure))
    finally:
        show("")
    # Reports are kept and shown to others, so known secrets are removed; the rest of a query stays.
    faults, notes = (list(map(redactor.without_known, some)) for some in (report.faults, report.notes))
    if as_json:
        counts = {"passed": report.passed, "looked_at": report.looked_at, "listed": report.listed}
        click.echo(json.dumps({**counts, "faults": faults, "notes": notes}, ensure_ascii=False))
    else:
        for level, some in (("fault", faults), ("note", notes)):
            for finding in some:
                click.echo(f"{level}: {finding}")
        if report.listed:
            click.echo(f"{report.looked_at} of {report.listed} segments were looked at")
        of_these = f", {len(notes)} of these are notes" if notes else ""
        click.echo(f"{report.passed} checks held, {len(faults) + len(notes)} didn't{of_these}")
    if faults or (is_strict and notes):
        sys.exit(FAILED)


@cli.command()
@click.argument("url")
@click.option("--channel", required=True, help="The live channel's name; its source is 'publish'.")
@click.option("--key", envvar=PUBLISH_KEY, help=f"Its publish_key; others can't see it in {PUBLISH_KEY}.")
@running_server
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def ingest(url: str, channel: str, key: str | None, server: AddressedServer, verbose: bool) -> None:
    """Feed a live channel of a running server from anything that ffmpeg reads.

    URL is a file, which is published in real time, or a URL, which is asked for again when it ends.
    """
    from origin.cli.ingest import IngestTarget, push

    if key in (None, ""):
        live = server.config_with_secrets.live
        key = next((one.publish_key for one in live if one.name == channel), None)
    logging_setup.configure(
        "debug" if verbose else "info", "text", Redactor.of([*secrets_of(url), key or ""])
    )
    if key in (None, ""):
        raise click.UsageError(f"The channel's publish_key is needed: in {PUBLISH_KEY}, or by --key.")
    target = IngestTarget(server.address, quote(channel, safe=""), key, server.trust())
    _run(lambda: push(url, target, lambda line: click.echo(f"headwater: {redact(line)}", err=True)))


@cli.command()
@running_server
@TOKEN
def reload(server: AddressedServer) -> None:
    """Have the running server read its configuration again.

    Prints the changed options that need a restart. The exit status is 0 if there are none, 3 if there are
    some, and 1 if the configuration can't be used or the server can't be asked.
    """
    from origin.cli.server_requests import ServerRequests

    pending = ServerRequests(server.address, server.admin_token, server.trust()).reload()
    for option in pending:
        click.echo(f"needs a restart: {option}")
    if pending:
        sys.exit(NEEDS_RESTART)
    click.echo("read again; nothing needs a restart")


@cli.command()
@running_server
@TOKEN
def export(server: AddressedServer) -> None:
    """Print the channels, stations and relays that were made at run time, as TOML with their secrets."""
    from origin.cli.server_requests import ServerRequests

    for table in ServerRequests(server.address, server.admin_token, server.trust()).export():
        click.echo(table)


@cli.command()
@click.argument("path")
@click.option(
    "--for", "lifetime", default="2h", show_default=True, help="How long it is valid: 90s, 30m, 1d."
)
@click.option("--name", default="", help="Whose it is, for the log.")
@click.option("--clips", is_flag=True, help="Allow clips of films (?start=…&end=…).")
@click.option("--publish", is_flag=True, help="Allow publishing to the channel or station.")
@click.option("--page", is_flag=True, help="Print the address of the page that shows it.")
@click.option(
    "--address", default="", help="Of the only client (192.0.2.7) or network (192.0.2.0/24) that may use it."
)
@configured_server
def sign(
    path: str,
    lifetime: str,
    name: str,
    clips: bool,
    publish: bool,
    page: bool,
    address: str,
    server: AddressedServer,
) -> None:
    """Print an address that can be given away: valid for a time, for PATH and all that is beneath it.

    PATH is as in the address, such as /vod/film.mp4/master.m3u8, /live/demo/master.m3u8 or /radio/demo.mp3,
    or a whole URL of the server. Of a playlist, all that a player needs is signed. Faults that
    the configuration shows, such as that nothing is served there, are written to standard error.
    """
    from origin.access.address_tokens import SigningKeys, expiry, sign_address
    from origin.config.kept_secrets import signing_keys
    from origin.config.own_addresses import base_address
    from origin.server.services.signable_addresses import SignableAddresses

    addresses = SignableAddresses.configured(server.config)
    keys = SigningKeys(signing_keys(server.config, server.folder))
    try:
        path = addresses.path_of(path)
        signed = sign_address(
            keys, path, expiry(lifetime), name, allows_clips=clips, may_publish=publish, client=address
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    for fault in addresses.faults(path, publishes=publish, on_page=page):
        _print_line(fault)
    click.echo(f"{base_address(server.config)}{signed.page if page else signed.address}")


@cli.command()
@configured_server
def doctor(server: AddressedServer) -> None:
    """List faults of this machine for the configuration, a line each with advice.

    The exit status is 1 when something that is configured can't work.
    """
    from origin.cli.diagnosis import Verdict
    from origin.cli.doctor import examine

    redactor = redactor_of(server.config)
    found = examine(server.config, server.file, own_library=server.names_library)
    for one in found:
        click.echo(redactor(str(one)))
    if any(one.verdict is Verdict.FAULT for one in found):
        sys.exit(FAILED)


def _layer(**sections: dict[str, Any]) -> load.Layer:
    """Return the options that were given on the command line, by section."""
    given = {
        section: {key: value for key, value in table.items() if value is not None}
        for section, table in sections.items()
    }
    return {section: table for section, table in given.items() if table}


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        uvloop.run(work())
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise click.exceptions.Abort from None
