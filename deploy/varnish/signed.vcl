# Varnish as a cache in front of signed addresses, after an HAProxy that checks their tokens (HEADWATER_KEYS): one copy
# for all viewers. Nobody but HAProxy may reach its port. The origin needs access.cache = "front". @CACHE@ is the path
# of headwater.vcl beside this file.
vcl 4.1;

include "@CACHE@";

sub vcl_recv {
  # A token that HAProxy hasn't checked is checked by the origin alone, whose answer is for nobody else.
  if (!req.http.X-Signed-Address && (req.url ~ "[?&]token=" || req.url !~ "^/" || req.url ~ "^/t/")) {
    return (pass);
  }
}

sub vcl_hash {
  # HAProxy has checked the token, and left it out. The origin is asked with it, by the first who wants something.
  if (req.http.X-Signed-Address) {
    hash_data("signed");
    hash_data(req.http.X-Signed-Address);
  } else {
    hash_data(req.url);
  }
  hash_data(req.http.Host);
  return (lookup);
}

sub vcl_backend_fetch {
  unset bereq.http.X-Signed-Address;
}
