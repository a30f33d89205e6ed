"""Credentials by the name of an environment variable. Both sides name them; workers read them, at each call.

So a secret is in no spec, no history and no `repr`, and a changed variable holds from the worker's next start.
"""

import re
from dataclasses import dataclass

from perdure.errors import InvalidToolError

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class Credential:
    """Where a secret is read from, and where it goes. Made by `env` and `basic_auth`.

    Attributes:
        variable: The environment variable of the worker.
        password_variable: Of the password, for basic authentication.
        header: The header that carries it.
        query: The query parameter that carries it.
        cookie: The cookie that carries it.
        scheme: The word before it, where it goes into the header `Authorization`.
    """

    variable: str
    password_variable: str = ""
    header: str = ""
    query: str = ""
    cookie: str = ""
    scheme: str = "Bearer"

    @property
    def is_placed(self) -> bool:
        """Whether its author said where it goes."""
        return bool(self.header or self.query or self.password_variable)


def env(variable: str, *, header: str = "", query: str = "", scheme: str = "Bearer") -> Credential:
    """Return a credential that workers read from an environment variable.

    It goes where the description of an API says, else into `Authorization: Bearer …`.

    Args:
        variable: Its name.
        header: Send it as it is in this header instead.
        query: Send it in this query parameter instead.
        scheme: The word before it in `Authorization`.

    Raises:
        InvalidToolError: The name is no variable's, or it has two places. Not retryable.
    """
    _check(variable)
    if header and query:
        raise InvalidToolError(f"env({variable!r}): give a header or a query parameter, not both.")
    return Credential(variable=variable, header=header, query=query, scheme=scheme)


def basic_auth(user: str, password: str) -> Credential:
    """Return credentials for basic authentication: two variables of the workers' environment.

    Args:
        user: The variable that holds the user's name.
        password: The variable that holds the password.

    Raises:
        InvalidToolError: A name is no variable's. Not retryable.
    """
    _check(user)
    _check(password)
    return Credential(variable=user, password_variable=password)


def _check(variable: str) -> None:
    if not _VARIABLE.fullmatch(variable):
        # It isn't quoted: somebody may have given the secret itself.
        raise InvalidToolError("env() and basic_auth() take names of environment variables, such as 'SHOP_TOKEN'.")
