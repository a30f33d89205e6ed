"""Who decides, by what the connection was opened with."""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from temporalio.client import Client, TLSConfig

from perdure.client._identity import decider


@dataclass
class Config:
    tls: Any = False
    api_key: str | None = None


@dataclass
class Service:
    config: Config


@dataclass
class Fake:
    service_client: Service


def who(**config: Any) -> tuple[str, str]:
    found = decider(cast("Client", Fake(Service(Config(**config)))))
    return found.source, found.name


def certificate(name: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + timedelta(days=1))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_certificate_names_its_subject() -> None:
    pem = certificate("ada")
    source, name = who(tls=TLSConfig(client_cert=pem, client_private_key=b"secret"), api_key="also")
    assert source == "certificate"
    assert name.startswith("CN=ada (sha256:")
    assert who(tls=TLSConfig(client_cert=pem)) == (source, name)
    assert who(tls=TLSConfig(client_cert=certificate("ada")))[1] != name, "another key is another person"


def test_a_certificate_that_can_not_be_read() -> None:
    assert who(tls=TLSConfig(client_cert=b"x")) == ("certificate", "a certificate that can't be read")


@pytest.mark.parametrize(
    ("claims", "start"), [({"sub": "ada"}, "ada (key sha256:"), ({"key_id": "k1"}, "k1 (key"), ({}, "key sha256:")]
)
def test_an_api_key_names_its_owner_and_never_itself(claims: dict[str, str], start: str) -> None:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    key = f"head.{body}.very-secret-signature"
    source, name = who(tls=True, api_key=key)
    assert (source, name[: len(start)]) == ("api_key", start)
    assert "secret" not in name
    assert body not in name


def test_an_api_key_that_is_no_jwt() -> None:
    assert who(api_key="plain-secret")[1].startswith("key sha256:")
    assert "plain" not in who(api_key="a.plain.b")[1]
