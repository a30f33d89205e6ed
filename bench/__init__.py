"""Measurements of perdure against bare Temporal: `python -m bench`, or `make bench`."""
