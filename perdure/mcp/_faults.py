"""What can go wrong with a server, as activities tell it apart. Activity side; data."""


class ServerFault(Exception):
    """A server can't be used just now, and nothing was run; the text says why, without secrets."""


class StaleSession(ServerFault):
    """The session had ended, as only this call found out; another session may do."""


class SessionLost(ServerFault):
    """A stateful session is gone, and what it held; nothing was run."""


class Unanswered(Exception):
    """A call was sent and has no answer: it may or may not have taken effect."""


class Refused(Exception):
    """The server answered that it can't, or that the tool failed; the text is the server's."""
