"""Where a bucket is, by the AWS_* variables, and the hosts to which requests for it may go.

The library that asks S3 follows redirects, also to hosts of a hostile bucket's choice, and with a session's
token. A proxy that nobody listens on has all requests but those for hosts that are known before.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

NOWHERE = "127.0.0.1:0"
"""The proxy of requests that may go nowhere: no process can listen on this port."""

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
"""Variables with the URL of an S3 server, the one that counts most first."""

METADATA = "http://169.254.169.254"
"""Where a machine of Amazon's has its credentials, if no variable has any."""


def endpoint_of(environment: Mapping[str, str]) -> str:
    """Return the URL of the S3 server."""
    named = next((environment[name] for name in ENDPOINTS if environment.get(name)), "")
    return named or f"https://s3.{_region(environment)}.amazonaws.com"


def proxy_of(bucket: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Return a proxy's URL and the hosts for which it isn't asked, by commas.

    Returns:
        None where the system has a proxy: that one decides which hosts may be reached.
    """
    if environment.get("AWS_PROXY_URL") or {"http", "https", "all"} & set(urllib.request.getproxies()):
        return None
    hosts = (urlsplit(url).hostname for url in (endpoint_of(environment), *_others(bucket, environment)))
    return f"http://{NOWHERE}", ",".join(sorted(set(filter(None, hosts))))


def _region(environment: Mapping[str, str]) -> str:
    return environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"


def _others(bucket: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the URLs of other endpoints that may count, and of where the credentials are."""
    yield from (environment[name] for name in ENDPOINTS if environment.get(name))
    if bucket.endswith("--x-s3"):
        yield f"https://s3express-{bucket.split('--')[-2]}.{_region(environment)}.amazonaws.com"
    if environment.get("AWS_ACCESS_KEY_ID"):
        return
    if environment.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        yield environment.get("AWS_ENDPOINT_URL_STS") or f"https://sts.{_region(environment)}.amazonaws.com"
    elif address := environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        yield address
    elif environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        yield "http://169.254.170.2"
    else:
        yield environment.get("AWS_METADATA_ENDPOINT") or METADATA
