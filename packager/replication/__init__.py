"""Carries logs from the process that makes them to others that serve what folding them gives."""
