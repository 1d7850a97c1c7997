"""Requests to one S3 bucket, each with a time-out, so many at once, and none for a while where S3 is gone.

What S3 answers is foreign data: lengths, ranges and entity-tags are checked. Its messages are never passed
on, since they may repeat credentials.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import obstore
import structlog
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import FileChangedError
from packager.redaction import redacted_url
from packager.retry_policy import FailureCount
from packager.s3.counters import REFUSED, UNAVAILABLE, S3Counters
from packager.s3.endpoint import ENDPOINTS, NOWHERE, proxy_of
from packager.s3.limits import S3Limits

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import ClientConfig

T = TypeVar("T")

log = structlog.get_logger()

ADDRESS = re.compile(
    r"s3://(?P<bucket>(?:[A-Za-z0-9._-]{1,64}:)?[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9_-])"
    r"(?P<prefix>(/[^/?#@\0-\x1f]+)*)/?"
)
"""``s3://bucket/prefix``; old buckets have capitals and underscores, and those of Ceph may name a tenant."""

NOTE = "headwater"
"""The name of an object's note in its metadata (``x-amz-meta-headwater``)."""

LARGEST_OBJECT = 1 << 50
"""More bytes than any object of S3 has."""

# RFC 9110 §8.8.3; a weak one can't be required by If-Match (§13.1.1).
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e]{1,256}"')

_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
_STATUS = re.compile(r"status code: ([0-9]{3})")
# As Rust writes strings for debugging.
_INVALID_KEY = re.compile(r'path: "((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(?:u\{([0-9a-f]{1,5})\}|(.))")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}

_REFUSALS = frozenset(
    {
        *("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
        *(
            "NoSuchBucket",
            "PermanentRedirect",
            "AuthorizationHeaderMalformed",
            "AllAccessDisabled",
            "401",
            "403",
        ),
    }
)
"""Codes of S3 that don't go away until somebody changes something."""

PAGE_KEYS = 1000
"""Keys of a page of a listing, as S3 returns them."""

ENDLESS = "a listing of S3 doesn't end"

MAX_UNLISTABLE_KEYS = 100
"""Most keys without a possible address that a listing goes past."""


class UnavailableError(OSError):
    """S3 can't be reached now, or doesn't answer as it should.

    Args:
        reason: the fault, without S3's own words.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EAGAIN, reason)

    def __str__(self) -> str:
        """Return the reason."""
        return str(self.strerror)


class AccessRefusedError(UnavailableError):
    """S3 refuses the credentials, or there is no such bucket."""


class _EmptyRangeError(UnavailableError):
    """The object has no bytes from which a range could begin; otherwise it is a wrong answer."""


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """The version of an object, different from all other versions.

    Attributes:
        key: of the object, below the library's prefix.
        size: in bytes.
        etag: its strong entity-tag, with the quotes.
        modified: when it was stored, in nanoseconds since the epoch.
        note: a word that was stored with the object, where its bytes were read; else empty.
    """

    key: str
    size: int
    etag: str
    modified: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object of a listing; see `ObjectVersion`."""

    key: str
    size: int
    modified: int


class Reachability:
    """Whether S3 answers; while it doesn't, one request at a time tries whether it does again.

    It is a circuit breaker, for several threads.

    Args:
        clock: seconds.

    Attributes:
        trouble: why S3 doesn't answer; empty where it does.
    """

    def __init__(self, limits: S3Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._pauses = FailureCount(limits.pauses)
        self._failures = 0
        self._closed_until: float | None = None
        self._is_trying = False
        self.trouble = ""

    def require(self) -> None:
        """Allow a request, or raise if S3 is unreachable.

        Raises:
            UnavailableError: S3 is unreachable, and it isn't time to try again.
        """
        with self._lock:
            if self._closed_until is None:
                return
            if self._is_trying or self._clock() < self._closed_until:
                raise UnavailableError(self.trouble)
            self._is_trying = True

    def succeeded(self) -> None:
        """Note an answer, which shows that S3 is reachable."""
        with self._lock:
            self._failures, self._is_trying, self.trouble = 0, False, ""
            self._pauses.succeeded()
            if self._closed_until is None:
                return
            self._closed_until = None
        log.info("S3 can be reached again")

    def failed(self, reason: str) -> None:
        """Note a request that got no answer, or a wrong one."""
        with self._lock:
            self._failures += 1
            was_trying, self._is_trying = self._is_trying, False
            if self._closed_until is not None and not was_trying:
                return  # a request from before the failure, which shows nothing new
            if self._failures < self._limits.failures and not was_trying:
                return
            self.trouble = reason
            self._closed_until = self._clock() + self._pauses.failed()
        if self._pauses.failures == 1:
            log.warning("S3 can't be reached", reason=reason)

    def refused(self, reason: str) -> None:
        """Note a refusal that will be repeated until the credentials or the configuration change."""
        with self._lock:
            was, self.trouble = self.trouble, reason
            self._failures, self._is_trying, self._closed_until = 0, False, None
        if was != reason:
            log.error("S3 refuses requests", reason=reason)

    def gave_up(self) -> None:
        """Note a request that ended without showing whether S3 answers."""
        with self._lock:
            self._is_trying = False


class S3Client:
    """A client of one bucket. Its methods block, and several threads may call them at once.

    Args:
        address: ``s3://bucket/prefix``.
        environment: the AWS_* variables with the endpoint and the credentials.
        clock: seconds.
    """

    def __init__(
        self,
        address: str,
        limits: S3Limits,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        found = ADDRESS.fullmatch(address)
        if found is None:
            raise ValueError(f"{redacted_url(address)}: not possible; allowed: s3://bucket/prefix")
        self.bucket, self.prefix = found["bucket"], found["prefix"].strip("/")
        self._limits = limits
        try:
            self._store = S3Store(
                self.bucket,
                prefix=self.prefix or None,
                client_options=_client_options(self.bucket, limits, environment),
                retry_config={
                    "max_retries": limits.retries,
                    "retry_timeout": timedelta(seconds=limits.retry_seconds),
                },
            )
        except (BaseError, ValueError):  # the messages may quote the variables
            raise ValueError(f"{address}: a value of the AWS_* variables isn't possible") from None
        self._clock = clock
        self.reachability = Reachability(limits, clock)
        self._told: set[str] = set()
        self.counters = S3Counters()

    def describe(self, key: str) -> ObjectVersion:
        """Ask for an object's size and entity-tag.

        Raises:
            NotFoundError: there is none.
            UnavailableError: S3 can't be reached now.
        """
        with self._request(key):
            return self._version(key, obstore.head(self._store, key))

    def read_first(self, key: str, length: int) -> tuple[ObjectVersion, bytes]:
        """Read the beginning of an object of which nothing is known; raises as `describe`."""
        try:
            with self._request(key):
                return self._read(key, 0, length, None)
        except _EmptyRangeError:  # RFC 9110 §15.5.17: no range of no bytes can be satisfied
            return self.describe(key), b""

    def read(self, version: ObjectVersion, start: int, stop: int) -> bytes:
        """Read a range of one version of an object.

        Args:
            start: position of the first byte.
            stop: position behind the last one, within the object.

        Raises:
            FileChangedError: it was replaced.
            NotFoundError, UnavailableError: as `describe`.
        """
        if not 0 <= start < stop <= version.size or stop - start > self._limits.request_bytes:
            raise ValueError(f"{start}-{stop} of {version.size}")
        try:
            with self._request(version.key):
                found, data = self._read(version.key, start, stop, version.etag)
        except _EmptyRangeError:
            raise FileChangedError(version.key) from None
        if (found.etag, found.size) != (version.etag, version.size):
            raise FileChangedError(version.key)
        return data

    def read_whole(self, key: str, size: int) -> bytes:
        """Read an object of a size that is known.

        Raises:
            FileChangedError: its size is another one.
            NotFoundError, UnavailableError: as `describe`.
        """
        most = self._limits.request_bytes
        version, data = self.read_first(key, min(size, most))
        if version.size != size:
            raise FileChangedError(key)
        starts = range(most, size, most)
        return b"".join((data, *(self.read(version, at, min(at + most, size)) for at in starts)))

    def objects(self, folder: str = "", behind: str | None = None) -> Iterator[list[ListedObject]]:
        """List objects page by page, in the order of their keys.

        Args:
            folder: only those in it, however deep; "" for all.
            behind: only those whose keys come behind this one.

        Raises:
            UnavailableError: S3 can't be asked now.
        """
        left, ends = self._limits.listed_keys, self._clock() + self._limits.listing_total_seconds
        for _ in range(MAX_UNLISTABLE_KEYS):
            pages = obstore.list(self._store, folder or None, offset=behind, chunk_size=PAGE_KEYS)
            try:
                while True:
                    with self._request(folder):
                        page = self._in_time(partial(anext, pages, None))
                        left -= 0 if page is None else len(page)
                        if left < 0 or self._clock() > ends:
                            raise _WrongAnswerError(ENDLESS)
                    if page is None:
                        return
                    found = [self._listed(one) for one in page]
                    if found:
                        behind = found[-1].key
                    yield found
            except _UnlistableError as error:
                # No address can have this key, and obstore gives up the page that has it.
                self._tell_unlistable(error.key)
                past = _past(error.key)
                if past is None or (behind is not None and past <= behind):
                    break
                behind = past
        log.error(
            "a listing of S3 was cut short",
            bucket=self.bucket,
            reason="more keys have no possible address than the listing can pass over",
        )

    def _tell_unlistable(self, key: str) -> None:
        """Warn of a key that can't be listed, the first time that it is met."""
        if key in self._told or len(self._told) >= MAX_UNLISTABLE_KEYS:
            return
        self._told.add(key)
        log.warning(
            "an object in S3 can't be listed",
            key=key[:200],
            bucket=self.bucket,
            consequence="no address can have it; what is beside it on its page of the listing isn't listed",
        )

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder.

        Raises:
            UnavailableError: S3 can't be asked now.
        """
        try:
            with self._request(folder):
                found = self._in_time(partial(obstore.list_with_delimiter_async, self._store, folder))
        except _UnlistableError as error:
            self._tell_unlistable(error.key)
            return self._folders_one_by_one(folder)
        return [path.rpartition("/")[2] for path in found["common_prefixes"]]

    def _folders_one_by_one(self, folder: str) -> list[str]:
        """Find the folders in a folder in which a key can't be listed, by looking behind each."""
        names: list[str] = []
        behind = None
        while len(names) < PAGE_KEYS:
            key = next((page[0].key for page in self.objects(folder, behind) if page), None)
            if key is None:
                break
            name, slash, _ = key.removeprefix(f"{folder}/").partition("/")
            if slash:
                names.append(name)
            behind = f"{folder}/{name}0"  # in ASCII "0" follows the slash
        return names

    def put(self, key: str, data: bytes, media_type: str, note: str = "") -> None:
        """Store an object, wholly or not at all.

        Args:
            note: a word in ASCII that is stored with the object, and comes with its bytes.

        Raises:
            UnavailableError: S3 can't be reached now, or refuses the object.
        """
        attributes = {"Content-Type": media_type, **({NOTE: note} if note else {})}
        try:
            with self._request(key):
                obstore.put(self._store, key, data, attributes=attributes)
        except NotFoundError:
            raise AccessRefusedError(f"S3 has no bucket {self.bucket}") from None

    def delete(self, key: str) -> None:
        """Remove an object, unless it is gone already.

        Raises:
            UnavailableError: S3 can't do it now, or refuses it.
        """
        with suppress(NotFoundError), self._request(key):
            obstore.delete(self._store, [key])

    def delete_written(self, key: str, size: int) -> bool:
        """Remove an object if it has the length that was written; return whether it is gone.

        Raises:
            UnavailableError: S3 can't do it now, or refuses it.
        """
        try:
            found = self.describe(key).size
        except NotFoundError:
            return True
        if found != size:
            log.warning(
                "an object in S3 isn't what was stored, and isn't removed",
                key=key,
                size=found,
                expected=size,
            )
            return False
        self.delete(key)
        return True

    def _in_time(self, listing: Callable[[], Awaitable[T]]) -> T:
        """Wait for a listing, which ends only when S3 says so: each of its pages may name a further one.

        Raises:
            _WrongAnswerError: it takes too long.
        """

        async def listed() -> T:
            async with asyncio.timeout(self._limits.listing_seconds):
                return await listing()

        try:
            return asyncio.run(listed())
        except TimeoutError:
            raise _WrongAnswerError(ENDLESS) from None

    @contextmanager
    def _request(self, key: str) -> Iterator[None]:
        """Send a request, and translate what goes wrong."""
        reachability = self.reachability
        reachability.require()
        self.counters.sent()
        began = self._clock()
        try:
            yield
        except FileNotFoundError:  # obstore's NotFoundError
            reachability.succeeded()
            raise NotFoundError(key) from None
        except (PreconditionError, FileChangedError):
            reachability.succeeded()
            raise FileChangedError(key) from None
        except (InvalidPathError, ValueError) as error:
            reachability.gave_up()
            raise _unlistable(error, self.prefix) from None
        except (PermissionDeniedError, UnauthenticatedError, BaseError) as error:
            raise self._failure(error) from None
        except _WrongAnswerError as error:
            self.counters.failed(UNAVAILABLE)
            reachability.failed(str(error))
            raise UnavailableError(str(error)) from None
        except BaseException:
            reachability.gave_up()
            raise
        else:
            reachability.succeeded()
        finally:
            self.counters.answered(self._clock() - began)

    def _failure(self, error: Exception) -> Exception:
        """Convert the error of a failed request, without S3's own words."""
        told = str(error)
        found = _CODE.search(told) or _STATUS.search(told)
        code = found[1] if found is not None else ""
        if code in ("InvalidRange", "416"):
            self.reachability.succeeded()
            return _EmptyRangeError(f"S3 doesn't answer as it should: {code}")
        if code in _REFUSALS or isinstance(error, PermissionDeniedError | UnauthenticatedError):
            reason = f"S3 refuses bucket {self.bucket}: {code or 'denied'}"
            self.counters.failed(REFUSED)
            self.reachability.refused(reason)
            return AccessRefusedError(reason)
        reason = f"S3 doesn't answer as it should: {code}" if code else "S3 doesn't answer"
        if NOWHERE in told:
            reason = "S3 leads to another host, which isn't followed"
        self.counters.failed(UNAVAILABLE)
        self.reachability.failed(reason)
        return UnavailableError(reason)

    def _read(self, key: str, start: int, stop: int, etag: str | None) -> tuple[ObjectVersion, bytes]:
        options: GetOptions = {"range": (start, stop)}
        if etag is not None:
            options["if_match"] = etag
        answer = obstore.get(self._store, key, options=options)
        version = self._version(key, answer.meta, answer.attributes.get(NOTE, ""))
        first, behind = answer.range
        wanted = min(stop, version.size) - start
        if first != start or behind - first != wanted:
            raise _WrongAnswerError(f"S3 sent bytes {first}-{behind} for {start}-{stop}")
        data = bytearray()
        for piece in answer.stream(min_chunk_size=min(wanted, 1 << 20)):
            data += piece
            self.counters.received(len(piece))
            if len(data) > wanted:
                break
        if len(data) != wanted:
            raise _WrongAnswerError(f"S3 sent another length than {wanted} bytes")
        return version, bytes(data)

    def _version(self, key: str, meta: ObjectMeta, note: str = "") -> ObjectVersion:
        etag, size = meta["e_tag"] or "", meta["size"]
        if not _STRONG_TAG.fullmatch(etag):
            raise _WrongAnswerError("S3 sends no strong ETag")
        if not 0 <= size <= LARGEST_OBJECT:
            raise _WrongAnswerError("S3 sends an impossible size")
        return ObjectVersion(key, size, etag, _nanoseconds(meta), note)

    def _listed(self, meta: ObjectMeta) -> ListedObject:
        return ListedObject(meta["path"], max(0, min(meta["size"], LARGEST_OBJECT)), _nanoseconds(meta))


class _WrongAnswerError(Exception):
    """S3 sent something else than it was asked for."""


class _UnlistableError(Exception):
    """A key in a listing can't be part of an address.

    Attributes:
        key: the key, below the library's prefix.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _unlistable(error: Exception, prefix: str) -> Exception:
    """Read the unlistable key from obstore's error; a requested name is just not found."""
    found = _INVALID_KEY.search(str(error))
    if not isinstance(error, InvalidPathError) or found is None:
        return NotFoundError("no key of S3 can have such a name")
    key = _ESCAPE.sub(lambda one: chr(int(one[1], 16)) if one[1] else _ESCAPES.get(one[2], one[2]), found[1])
    return _UnlistableError(key.removeprefix(f"{prefix}/") if prefix else key)


def _past(key: str) -> str | None:
    """Return a position behind all keys that begin with a key that no address can have."""
    parts = key.split("/")
    for number, part in enumerate(parts):
        before = "".join(f"{one}/" for one in parts[:number])
        if part in ("", ".", ".."):
            return f"{before}{part}0"  # in ASCII "0" follows the slash
        for place, character in enumerate(part):
            if not character.isprintable():
                return f"{before}{part[:place]}{' ' if character < ' ' else chr(0xA0)}"
    return None


def _nanoseconds(meta: ObjectMeta) -> int:
    return round(meta["last_modified"].timestamp()) * 10**9


def _client_options(bucket: str, limits: S3Limits, environment: Mapping[str, str]) -> ClientConfig:
    options: ClientConfig = {
        # An endpoint with http was configured on purpose.
        "allow_http": any(environment.get(name, "").lower().startswith("http://") for name in ENDPOINTS),
        "connect_timeout": timedelta(seconds=limits.connect_seconds),
        "read_timeout": timedelta(seconds=limits.silent_seconds),
        "timeout": timedelta(seconds=limits.request_seconds),
    }
    if (proxy := proxy_of(bucket, environment)) is not None:
        options["proxy_url"], options["proxy_excludes"] = proxy
    return options
