"""Who decides: what the connection to Temporal was opened with, else the account of this process. Client side.

Temporal shows a workflow no caller, so what a decision records is told by the client that made it: perdure's takes
it from the credential that the server let in, or from the operating system, and never from an option. Whoever may
write to the namespace without perdure can claim anything, but not what stands as `principal` in Event History,
which a server with an authorizer fills in.
"""

import base64
import hashlib
import json
import os
import socket
import ssl
from typing import Any

from temporalio.client import Client

from perdure.contracts.waits import Decider

_CHARS = 200


def decider(client: Client) -> Decider:
    """Return who decides over this connection: by certificate, by API key, or the user of the operating system."""
    config = client.service_client.config
    certificate: bytes | None = getattr(config.tls, "client_cert", None)
    if certificate:
        return Decider(name=_subject(certificate)[:_CHARS], source="certificate")
    if config.api_key:
        return Decider(name=_key_owner(config.api_key)[:_CHARS], source="api_key")
    return Decider(name=f"{_os_user()}@{socket.gethostname()}"[:_CHARS], source="os_user")


def _subject(certificate: bytes) -> str:
    """Return the subject of a certificate, where that can be read, and always its fingerprint."""
    text = certificate.decode("ascii", "ignore")
    first = text[text.find("-----BEGIN CERTIFICATE-----") :]
    try:
        der = ssl.PEM_cert_to_DER_cert(first[: first.find("-----END CERTIFICATE-----") + 25])
    except ValueError:
        return "a certificate that can't be read"
    fingerprint = f"sha256:{hashlib.sha256(der).hexdigest()[:16]}"
    try:
        from cryptography.x509 import load_der_x509_certificate  # an extra
    except ImportError:
        return fingerprint
    try:
        return f"{load_der_x509_certificate(der).subject.rfc4514_string()} ({fingerprint})"
    except ValueError:
        return fingerprint


def _key_owner(key: str) -> str:
    """Return whom an API key says that it is for, if it is a JWT, else a digest; never the key."""
    digest = f"key sha256:{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    parts = key.split(".")
    if len(parts) != 3:
        return digest
    try:
        claims: Any = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        subject = claims.get("sub") or claims.get("key_id")
    except (ValueError, AttributeError):
        return digest
    return f"{subject} ({digest})" if isinstance(subject, str) and subject else digest


def _os_user() -> str:
    """Return the user from the system's own records: variables such as USER are anybody's to set."""
    try:
        import pwd
    except ImportError:  # Windows
        return os.getlogin()
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
