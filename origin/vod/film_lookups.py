"""Lookups of films: each film is opened in a thread once, for all requests that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from origin.answers.reply import Pending, Reply, ReplyReceiver
from origin.files.open_files import OpenFileCache, SharedFile
from origin.vod.addresses import Address
from packager.library.storage_interface import LibraryFile
from packager.vod import Titles

Opened = SharedFile | Exception | None
"""A film that was opened, or the error; None where the film was opened, but can't be shared."""


class FilmLookups:
    """Opens films, and puts them into the cache of open files.

    Args:
        files: the films that are open, by their own addresses.
    """

    def __init__(self, titles: Titles, files: OpenFileCache) -> None:
        self._titles = titles
        self._files = files
        # By the network, too, so that nobody waits in the turn of another one.
        self._waiting: dict[tuple[bytes, str], list[Callable[[Opened], None]]] = {}

    def find(self, address: Address, network: str) -> SharedFile | None:
        """Find the film of an address if it is open; one that is due to be looked up again is looked up."""
        found = self._files.find(address.film_target)
        if found is None:
            self.begin(address, network)
            # Meanwhile what is still valid is used.
            found = self._files.find(address.film_target)
        return None if found is None else found.shared

    def begin(self, address: Address, network: str) -> list[Callable[[Opened], None]]:
        """Have a film opened in the turn of a client's network, unless that has begun.

        Returns:
            The list of those who wait for it.
        """
        key = address.film_target, network
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = []
            threads = self._titles.threads.of(network)
            opening = threads.submit(self._titles.files.open_indexed, address.film)
            opening.add_done_callback(partial(self._opened, key))
        return waiting

    def _opened(self, key: tuple[bytes, str], opening: asyncio.Future[LibraryFile]) -> None:
        """Cache a film that was opened, and call those who wait for it, each in a step of its own."""
        waiting, target = self._waiting.pop(key), key[0]
        error = None if opening.cancelled() else opening.exception()
        film: SharedFile | None = None
        if not opening.cancelled() and error is None:
            film = self._files.share(target, opening.result(), "", ())
            if film is None:
                opening.result().close()
        loop = opening.get_loop()
        for call in waiting:
            loop.call_soon(call, error if isinstance(error, Exception) else film)
        if film is not None:
            # However long they take, the film isn't looked up again for these.
            loop.call_soon(film.release)


class AwaitedFilm(Pending):
    """A reply that is decided when a film has been opened.

    Args:
        decide: makes the reply, or what it is further waited for.
    """

    __slots__ = ("_address", "_decide", "_lookups", "_network", "_receiver", "_then")

    def __init__(
        self,
        lookups: FilmLookups,
        address: Address,
        network: str,
        decide: Callable[[Opened], Reply | Pending],
    ) -> None:
        self._lookups = lookups
        self._address = address
        self._network = network
        self._decide = decide
        self._receiver: ReplyReceiver | None = None
        self._then: Pending | None = None

    def start(self, receiver: ReplyReceiver) -> None:
        """Wait for the film."""
        self._receiver = receiver
        self._lookups.begin(self._address, self._network).append(self._opened)

    def cancel(self) -> None:
        """Stop waiting; the film is opened all the same."""
        self._receiver = None
        if self._then is not None:
            self._then.cancel()

    def _opened(self, film: Opened) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        try:
            outcome = self._decide(film)
        except Exception as error:  # noqa: BLE001  # the receiver logs it, and the others go on
            receiver.fail(error)
            return
        if isinstance(outcome, Reply):
            receiver.reply(outcome)
        else:
            self._then = outcome
            outcome.start(receiver)
