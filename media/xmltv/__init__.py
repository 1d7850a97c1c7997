"""XMLTV: programme guides as XML."""
