"""HTTP requests for HLS playlists, segments and keys, limited in size and time."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from urllib.parse import urljoin, urlsplit

import httpx

from media.hls.playlist_reader import Resource
from packager.bounded_dict import BoundedDict
from packager.inflation import CODINGS, Inflater
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.retries import PullError
from packager.step_budget import StepBudget
from packager.threads import SHARED_THREADS

KEY_BYTES = 16
DECIPHERED_BYTES = 1 << 20
"""Most bytes that one decryption step takes, since the GIL is held meanwhile."""


class HlsFetcher:
    """Fetches the playlists, segments and keys of one HLS stream.

    Args:
        client: follows redirects and limits how long a server may be silent.
        limits: the limits of requests' duration, and of the size of playlists and segments.
    """

    def __init__(self, client: httpx.AsyncClient, limits: SourceLimits = DEFAULT_LIMITS) -> None:
        self._client = client
        self._limits = limits
        self._keys = BoundedDict[str, bytes](limits.cached_keys)

    async def playlist(self, url: str) -> tuple[bytes, str]:
        """Fetch a playlist; return it and its URL after redirects.

        Raises:
            PullError: the playlist is unavailable or too large.
        """
        try:
            async with (
                asyncio.timeout(self._limits.request_seconds),
                self._client.stream("GET", url) as response,
            ):
                return bytes(await read_body(response, self._limits.playlist_reader.playlist_bytes)), str(
                    response.url
                )
        except TimeoutError as error:
            raise PullError("a playlist takes too long") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PullError(type(error).__name__) from error

    async def segment(self, base: str, resource: Resource) -> bytearray:
        """Fetch and decrypt a segment or an init segment, with retries.

        Args:
            resource: URI, byte range and key, as the playlist gives them.

        Raises:
            PullError: the segment is unavailable or too large, or can't be decrypted with its key.
        """
        url = resolve(base, resource.uri)
        data = await self._again_and_again(url, resource.span, self._limits.segment_bytes)
        if resource.key is None:
            return data
        key = await self._key(resolve(base, resource.key.uri))
        # Segments are large, and the first import of the cryptography library is slow.
        return await SHARED_THREADS.run(_deciphered, data, key, resource.key.iv)

    async def _key(self, url: str) -> bytes:
        """Return a key from the cache, or fetch it."""
        if url not in self._keys:
            key = await self._again_and_again(url, None, KEY_BYTES)
            if len(key) != KEY_BYTES:
                raise PullError(f"a key of {len(key)} bytes")
            self._keys[url] = bytes(key)
        return self._keys[url]

    async def _again_and_again(self, url: str, span: tuple[int, int] | None, limit: int) -> bytearray:
        for pause in self._limits.segment_retry.pauses():
            try:
                return await self._segment(url, span, limit)
            except PullError:
                await asyncio.sleep(pause)
        return await self._segment(url, span, limit)

    async def _segment(self, url: str, span: tuple[int, int] | None, limit: int) -> bytearray:
        headers = {} if span is None else {"range": f"bytes={span[0]}-{span[0] + span[1] - 1}"}
        try:
            async with (
                asyncio.timeout(self._limits.request_seconds),
                self._client.stream("GET", url, headers=headers) as response,
            ):
                data = await read_body(response, limit)
        except TimeoutError as error:
            raise PullError("a segment takes too long") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PullError(type(error).__name__) from error
        if span is not None and response.status_code == 200:
            # RFC 9110 §14.2: a server may ignore Range.
            del data[span[0] + span[1] :], data[: span[0]]
        return data


def _deciphered(data: bytearray, key: bytes, iv: bytes) -> bytearray:
    """Decrypt AES-128 in CBC mode with PKCS7 padding (RFC 8216bis §4.4.4.4).

    Raises:
        PullError: the padding is wrong, as it is with a wrong key.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.padding import PKCS7

    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    unpadder = PKCS7(8 * KEY_BYTES).unpadder()
    plain = bytearray()
    try:
        for start in range(0, len(data), DECIPHERED_BYTES):
            plain += unpadder.update(decryptor.update(bytes(data[start : start + DECIPHERED_BYTES])))
        plain += unpadder.update(decryptor.finalize())
        plain += unpadder.finalize()
    except ValueError as error:
        raise PullError("a segment isn't encrypted with its key") from error
    return plain


def resolve(base: str, uri: str) -> str:
    """Resolve a URI of a playlist against the playlist's URL.

    Raises:
        PullError: the result isn't an HTTP URL; a foreign playlist may use no other protocol.
    """
    try:
        url = urljoin(base, uri)
        parts = urlsplit(url)
        with contextlib.suppress(httpx.InvalidURL):  # the request for it raises the error
            httpx.URL(url).host  # noqa: B018  # a name in Punycode is decoded here
    except ValueError as error:
        raise PullError("a playlist names no address") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PullError("a playlist names something that isn't HTTP")
    return url


async def read_body(response: httpx.Response, limit: int) -> bytearray:
    """Read the content of a response, without its content coding.

    Args:
        response: a response whose content hasn't been read.
        limit: most bytes, before and after decoding.

    Raises:
        PullError: the status isn't 200 or 206, the content is too large, or its coding isn't supported.
    """
    if response.status_code not in (200, 206):
        raise PullError(f"it answers {response.status_code}")
    coding = response.headers.get("content-encoding", "identity").lower()
    if coding != "identity" and coding not in CODINGS:
        raise PullError("it answers in a coding that nobody asked for")
    inflater = None if coding == "identity" else Inflater()
    found, budget = bytearray(), StepBudget()
    try:
        async for data in response.aiter_raw():
            for part in (data,) if inflater is None else inflater.push(data):
                found += part
                # Checked after each step: ten kilobytes may expand to ten gigabytes.
                if len(found) > limit:
                    raise PullError(f"it answers with more than {limit} bytes")
                await budget.spend()
            if inflater is not None and inflater.has_ended:
                break
    except zlib.error as error:
        raise PullError("its coding is broken") from error
    return found
