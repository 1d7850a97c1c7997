"""Programmes of live channels, and recordings of spans, as requests name and change them."""
