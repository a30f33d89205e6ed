"""Doubles that perdure's own tests and users' tests share. May import everything but the command line."""

from perdure.testing.scripted import ScriptedModel, calls

__all__ = ["ScriptedModel", "calls"]
