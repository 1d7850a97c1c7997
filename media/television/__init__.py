"""Lists and feeds for apps of televisions and podcasts, as text; the guide is written in `media.xmltv`."""
