"""HTTP/1 on a connection: what wire.py's protocol class is made of."""
