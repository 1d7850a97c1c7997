"""Admission of publishers to the live channels of a server, by keys that change while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec
import structlog

from origin.access.authorization import Authorization
from origin.access.guess_delay import GuessDelay
from origin.access.publish_keys import PublishKeys
from origin.config import logging_setup
from origin.config.kept_secrets import MadeKeys, StartSecrets
from origin.config.limit_options import LimitOptions
from origin.config.options import Config, redactor_of
from origin.http.channel_patterns import template_of
from origin.ingest.admission import IngestAdmission, Webhook
from origin.ingest.limits import IngestLimits
from origin.server.services.mapping_view import MappingView
from packager.live.channel import Channel
from packager.threads import SHARED_THREADS

log = structlog.get_logger()


class PublisherServices:
    """Admits publishers to the live channels of one server, and changes the channels' keys.

    Args:
        made_keys: the generated keys, which aren't configured.
        keys: the publish keys of the channels.
        on_log_change: called with a configuration by which other processes are to write their logs, and
            another one whose secrets these mustn't show either.

    Attributes:
        keys: the publish keys of the channels.
    """

    def __init__(
        self,
        config: Config,
        made_keys: MadeKeys,
        channels: Mapping[str, Channel],
        keys: PublishKeys,
        admission: IngestAdmission,
        on_log_change: Callable[[Config, Config], None],
    ) -> None:
        self._config = self._newest_config = config
        self._made_keys = made_keys
        self._channels = channels
        self._on_log_change = on_log_change
        self._configured = frozenset[str]()
        self._change = asyncio.Lock()
        self.keys = keys
        self.admission = admission

    async def take_keys(self, new: Config) -> None:
        """Apply the keys of a reloaded configuration; keys that it doesn't have stay."""
        async with self._change:
            self._configured = frozenset(_keys_in(new))
            await self._change_keys(new)

    def may_renew_key(self, channel: str) -> bool:
        """Return whether a channel's key was generated, and isn't configured now."""
        return channel in self._made_keys.channels - self._configured

    async def renew_key(self, channel: str) -> str:
        """Generate another key of a channel for which ``may_renew_key`` holds, and return it.

        Raises:
            SecretsError: the file of generated secrets isn't to be trusted.
            OSError: it can't be written.
        """
        async with self._change:
            key = await SHARED_THREADS.run(self._made_keys.renew, channel)
            # Later log lines mustn't show the key, even if the configuration is read again.
            self._config = _with_key(self._config, channel, key)
            await self._change_keys(_with_key(self._newest_config, channel, key))
        return key

    async def take_made_secrets(self, made: StartSecrets) -> None:
        """Apply the secrets of new tables that aren't configured: texts, or hashes of keys."""
        async with self._change:
            known, new = self._made_keys, made.made_keys
            self._made_keys = replace(
                known, channels=known.channels | new.channels, file=new.file or known.file
            )
            self.keys.add_hashes(new.hashes)
            # Later log lines mustn't show them.
            tables = {
                section: (*getattr(self._config, section), *getattr(made.config, section))
                for section in ("live", "radio", "relay")
            }
            self._config = msgspec.structs.replace(self._config, **tables)
            changed = self._newest_config
            for one in made.config.live:
                changed = _with_key(changed, one.name, one.publish_key) if one.publish_key else changed
            await self._change_keys(changed)

    async def _change_keys(self, new: Config) -> None:
        """Apply new keys and redact them in the log; publishers with a former key are disconnected."""
        self._newest_config = new
        redactor = await SHARED_THREADS.run(redactor_of, self._config, new)
        await SHARED_THREADS.run(logging_setup.configure, new.log.level, new.log.format, redactor)
        self._on_log_change(new, self._config)
        rotated = self.keys.rotate(_keys_in(new))
        for name, channel in self._channels.items() if rotated else ():
            if not rotated.isdisjoint((name, template_of(name))):
                log.info("publish_key was changed", channel=name)
                if channel.published is not None:
                    channel.published.end_all("the channel's publish_key was changed")


def make_keys(config: Config, made_keys: MadeKeys) -> PublishKeys:
    """Make the keys with which the live channels are published to.

    Args:
        made_keys: the generated keys, which aren't configured.
    """
    return PublishKeys(_keys_in(config), made_keys.hashes)


def make_admission(
    config: Config,
    channels: Mapping[str, Channel],
    authorization: Authorization,
    guess_delay: GuessDelay,
    limits: IngestLimits,
) -> IngestAdmission:
    """Make what decides who may publish to the live channels.

    Args:
        guess_delay: counts wrong keys, and delays the answers to them.
    """
    sources = MappingView(channels, lambda channel: channel.published)
    limits = ingest_limits(config.limits, limits)
    return IngestAdmission(sources, authorization, guess_delay, limits, make_webhook(config, limits))


def make_webhook(config: Config, limits: IngestLimits) -> Webhook | None:
    """Make what asks about publishers; None where nothing is configured."""
    if not (url := config.server.publish_webhook):
        return None
    # Here and not above: most servers need no client of HTTP, and are back sooner after a crash without.
    from origin.ingest.publish_webhook import PublishWebhook

    return PublishWebhook(url, limits)


def ingest_limits(configured: LimitOptions, limits: IngestLimits) -> IngestLimits:
    """Return the limits of live channels' publishers, with the configured ones."""
    return replace(limits, publishers=configured.publishers, silent_seconds=configured.publisher_seconds)


def _keys_in(config: Config) -> dict[str, str]:
    return {one.name: one.publish_key for one in config.live if one.publish_key}


def _with_key(config: Config, channel: str, key: str) -> Config:
    live = (
        msgspec.structs.replace(one, publish_key=key) if one.name == channel else one for one in config.live
    )
    return msgspec.structs.replace(config, live=tuple(live))
