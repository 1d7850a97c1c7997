# Varnish as a cache in front of Headwater: a file is fetched once as a whole, and ranges are cut from it,
# also while it is still coming. @HOST@ and @PORT@ are the origin's.
vcl 4.1;

backend origin {
  .host = "@HOST@";
  .port = "@PORT@";
}

sub vcl_recv {
  # Nothing of the origin depends on cookies, and Varnish wouldn't cache where there are some.
  unset req.http.Cookie;

  # RFC 9110 §14.2: a Range that it can't do may be ignored; Varnish itself would refuse several ranges with 416.
  if (req.http.Range && req.http.Range !~ "(?i)^bytes=([0-9]+-[0-9]*|-[0-9]+)$") {
    unset req.http.Range;
  }
}

sub vcl_backend_response {
  # Kept beyond their time so that an expired file costs a 304, not a second fetch.
  set beresp.keep = 1d;
}

sub vcl_deliver {
  if (obj.hits > 0) {
    set resp.http.X-Cache = "HIT";
  } else {
    set resp.http.X-Cache = "MISS";
  }
}
