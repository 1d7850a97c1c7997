"""The rules by which fronts check tokens, made of the origin's own tables."""

from __future__ import annotations

from origin.access.address_tokens import ADDRESS, CLIP_PARAMETERS, NETWORK, TOKEN
from origin.access.request_tokens import COOKIE, PARAMETER
from origin.http.path_prefixes import ADMIN, TOKEN_PREFIX, TOKEN_SEGMENT

KEPT_AREAS = "(media|vod|live)"

UNUSUAL = r"[^!-~]|[#\x5c]|//|/[.]{1,2}(/|[?]|$)|%(?![0-9a-f]{2})|%([01][0-9a-f]|2[ef]|5c|7f)"
"""What two readers of an address could resolve in two ways; of such addresses nothing is kept."""

UNBOUND_TOKEN = TOKEN.pattern.replace(f"([{ADDRESS}{NETWORK}]?)", "")
"""A token that isn't bound to a client."""

UNCHECKED = f'req.url ~ "[?&]{PARAMETER}" || req.url !~ "^/" || req.url ~ "^{TOKEN_PREFIX}"'
"""Requests with a token that HAProxy hasn't checked, in Varnish's words."""

NO_TOKEN = (
    '"~*^(/|%2f)+(t|%74)(/|%2f)+([^/?%]|%(?!2f))*(?<after>[^?]*)" $after;',
    '"~^(?<path>[^?]*)" $path;',
)
"""What nginx logs of an address, as the origin does: neither its token nor its query."""

RULES = {
    "nginx/cache.conf": NO_TOKEN,
    "nginx/http2.conf": NO_TOKEN,
    "nginx/signed.conf": (
        *NO_TOKEN,
        rf'"~*{UNUSUAL}" "";',
        rf'"~^{TOKEN_PREFIX}{TOKEN_SEGMENT}(?<rest>/{KEPT_AREAS}/.+)$" $rest;',
        f'"~[?&]{PARAMETER}" "";',
        rf'"~^/{KEPT_AREAS}/.+" $usual;',
        f'map "$http_authorization$cookie_{COOKIE}" $presented {{ default 1; "" ""; }}',
        f"location ~ ^{TOKEN_PREFIX}{TOKEN_SEGMENT}/media/ {{",
    ),
    "haproxy/haproxy.cfg": (
        rf"acl is_kept pathq -m reg '^{TOKEN_PREFIX}{TOKEN_SEGMENT}/{KEPT_AREAS}/.+$'",
        rf"acl is_unusual pathq -m reg -i '{UNUSUAL}'",
        rf"acl is_token var(txn.token) -m reg '^{UNBOUND_TOKEN}$'",
        rf"acl asks_for_clip query -m reg '%|(^|&)({'|'.join(sorted(CLIP_PARAMETERS))})(=|&|$)'",
        f"http-request deny deny_status 403 if {{ path,url_dec -m beg {ADMIN} }}",
    ),
    "varnish/headwater.vcl": (f'if (bereq.url ~ "^({TOKEN_PREFIX}{TOKEN_SEGMENT})?/live/") {{',),
    "varnish/signed.vcl": (f"if (!req.http.X-Signed-Address && ({UNCHECKED})) {{",),
}
"""Lines of the files that say who may have what is kept."""
