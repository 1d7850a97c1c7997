# Varnish as a cache in front of signed addresses, behind an HAProxy that checks their tokens (HEADWATER_KEYS): one copy
# for all viewers. The origin needs access.cache = "front". @CACHE@ is the path of headwater.vcl beside this file.
vcl 4.1;

include "@CACHE@";

sub vcl_recv {
  # A token in the query is checked by the origin alone.
  if (req.url ~ "[?&]token=") {
    return (pass);
  }
}

sub vcl_hash {
  # The address without the token. The origin is asked with it, by the first who wants something.
  hash_data(regsub(req.url, "^/t/[^/]+", ""));
  hash_data(req.http.Host);
  return (lookup);
}
