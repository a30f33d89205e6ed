"""Vendor back ends, one wire format a file. Activity side: they know HTTP, and nothing of Temporal."""
