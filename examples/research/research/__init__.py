"""A perdure project; this file imports nothing, so that workflows stay light."""
