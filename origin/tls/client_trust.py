"""The servers that this program's commands trust as clients."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

import httpx

from origin.config.options import Config
from origin.tls.certificates import configured_certificates


def trusted_context(*, is_insecure: bool = False) -> ssl.SSLContext:
    """Return settings that trust the known authorities, or those of the file that SSL_CERT_FILE names.

    Args:
        is_insecure: whether any certificate is taken.
    """
    return httpx.create_ssl_context(verify=not is_insecure)


def own_context(config: Config) -> ssl.SSLContext:
    """Return settings that trust a server by the very certificates that it is configured with.

    It is asked on its own machine, where it has another name than in its certificates.

    Raises:
        CertificateError: the certificates can't be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # A certificate that is trusted by itself needs nobody who signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for pem in configured_certificates(config).pems:
        context.load_verify_locations(cadata=pem.decode("ascii", "replace"))
    return context


def led_to_https(url: str, location: str) -> str | None:
    """Return scheme, host and port of the HTTPS to which a server's redirect leads; None for anything else.

    It is the same host's, as keys and tokens are sent there again.
    """
    old, new = urlsplit(url), urlsplit(location)
    if (old.scheme, new.scheme, old.hostname) != ("http", "https", new.hostname):
        return None
    return f"https://{new.netloc}"


def explained(error: Exception, otherwise: str = "") -> str:
    """Return why a connection failed, and what to do where the server's certificate or address is the cause.

    Args:
        otherwise: the advice where neither is.
    """
    text = str(error) or type(error).__name__
    _, is_untrusted, reason = text.partition("certificate verify failed: ")
    if is_untrusted:
        remedy = "SSL_CERT_FILE names a file with certificates to trust, --insecure takes any"
        return f"its certificate isn't trusted ({reason.partition(' (')[0]}); {remedy}"
    if "wrong version number" in text.lower():
        return "it speaks no TLS; its address begins with http://"
    return f"{text}{otherwise}"
