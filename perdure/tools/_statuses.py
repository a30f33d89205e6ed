"""HTTP statuses that both kinds of HTTP tools read alike. Activity side."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
PASSING = frozenset({429, 502, 503, 504})
"""A server that is busy, or away for a while: the call can be made again."""
