# Varnish as a cache in front of Headwater: a file is fetched once as a whole, and ranges are cut from it,
# also while it is still coming. @HOST@ and @PORT@ are the origin's.
vcl 4.1;

backend origin {
  .host = "@HOST@";
  .port = "@PORT@";
}

sub vcl_recv {
  # Nothing but reading goes through: whoever may publish does so at the origin. Of all addresses, since the
  # origin reads /%6Cive/ as /live/, and an expression for addresses here doesn't.
  if (req.method !~ "^(GET|HEAD|OPTIONS)$") {
    return (synth(405));
  }
  # Beneath /admin/ GET changes something.
  if (req.url ~ "(?i)^(https?://[^/]+)?/(a|%61)(d|%64)(m|%6d)(i|%69)(n|%6e)(/|%2f)") {
    return (synth(403));
  }

  # The origin believes no address if a client's own Forwarded contradicts X-Forwarded-For, to which Varnish adds.
  unset req.http.Forwarded;

  # A WebSocket is a tunnel, at whose end the origin reads nothing more from a connection whose upgrade it refuses.
  if (req.http.Upgrade ~ "(?i)^websocket$") {
    return (pipe);
  }

  # What a viewer gets by a token in a cookie is for nobody else. Nothing of the origin depends on other cookies, and
  # Varnish wouldn't cache where there are some.
  if (req.http.Cookie ~ "(^|;\s*)headwater_token=") {
    return (pass);
  }
  unset req.http.Cookie;

  # RFC 9110 §14.2: a Range that it can't do may be ignored; Varnish itself would refuse several ranges with 416.
  if (req.http.Range && req.http.Range !~ "(?i)^bytes=([0-9]+-[0-9]*|-[0-9]+)$") {
    unset req.http.Range;
  }
}

sub vcl_pipe {
  set bereq.http.Connection = "Upgrade";
  set bereq.http.Upgrade = "websocket";
}

sub vcl_backend_response {
  if (bereq.url ~ "^(/t/[A-Za-z0-9._-]+)?/live/") {
    # A playlist that is past its time is another one: it is never given out, nor while the next one is fetched.
    if (bereq.url ~ "^[^?]+\.(m3u8|mpd)(\?|$)") {
      set beresp.grace = 0s;
      if (bereq.url !~ "[?&]_HLS_msn=" && beresp.ttl > 500ms) {
        set beresp.ttl = 500ms;
      }
    }
    # What isn't there yet, or failed, may be there with the next request. Without a time to live it isn't kept,
    # and those who ask for it together still ask once.
    if (beresp.status >= 500 || beresp.ttl <= 0s || beresp.http.Cache-Control ~ "no-store|private") {
      set beresp.ttl = 0s;
      set beresp.grace = 0s;
    }
    return (deliver);
  }
  # Kept beyond their time so that an expired file costs a 304, not a second fetch.
  set beresp.keep = 1d;
}

sub vcl_deliver {
  if (obj.hits > 0) {
    set resp.http.X-Cache = "HIT";
  } elsif (!obj.uncacheable) {
    set resp.http.X-Cache = "MISS";
  }
}
