"""Engines that let in only who shows something: a Temporal with mutual TLS, one with API keys, a Prefect likewise.

The Temporal is the embedded one's binary with another configuration. Its API keys are signed tokens that the server
itself checks; the certificates are made here, for a day.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from temporalio.envconfig import ClientConnectConfig
from temporalio.service import TLSConfig

from stack import ports
from stack.prefect import Prefect
from stack.processes import Command
from stack.temporal import _SERVICES, Temporal, answers_calls

SERVER_NAME = "temporal.inside"  # what the server's certificate says; no address leads there


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority of one's own, in a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder, self.name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _named(f"the {name} of the tests")
        made = _draft(self._subject, self._subject, self._key, timedelta(days=1)).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.certificate = _written(folder / f"{name}.pem", made.sign(self._key, hashes.SHA256()))

    def issue(self, name: str, *, lasts: timedelta = timedelta(days=1)) -> Pair:
        """Return a certificate for server and client; one that `lasts` a negative time has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        names = [x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.2"))]
        made = (
            _draft(_named(name), self._subject, key, lasts)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        number = len(list(self.folder.glob("*.key")))
        path = self.folder / f"{name}-{number}.key"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Pair(_written(path.with_suffix(".pem"), made.sign(self._key, hashes.SHA256())), path)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _draft(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lasts: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now + lasts)
    )


def _written(path: Path, certificate: x509.Certificate) -> Path:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


class Signer:
    """Signs API keys as Temporal's own token check wants them: JSON Web Tokens, ES256."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        known = {"kty": "EC", "crv": "P-256", "kid": "tests", "use": "sig", "alg": "ES256"}
        at = {name: _base64(value.to_bytes(32, "big")) for name, value in (("x", numbers.x), ("y", numbers.y))}
        self.keys = folder / "keys.json"
        self.keys.write_text(json.dumps({"keys": [known | at]}))

    def api_key(self, *permissions: str, lasts: timedelta = timedelta(days=1)) -> str:
        """Return a key with these permissions, such as "default:write"."""
        until = int((datetime.now(UTC) + lasts).timestamp())
        claims = {"sub": "signalbox", "exp": until, "permissions": list(permissions)}
        head = {"alg": "ES256", "typ": "JWT", "kid": "tests"}
        signed = f"{_base64(json.dumps(head).encode())}.{_base64(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class SecuredTemporal(Temporal):
    """A Temporal with TLS on its frontend: with `signer` it wants an API key, else a client's certificate."""

    def __init__(self, home: Path, *, signer: Signer | None = None) -> None:
        home.mkdir(parents=True, exist_ok=True)
        super().__init__(home)
        self.authority = Authority(home)
        self.certificate = self.authority.issue(SERVER_NAME)
        self.client = self.authority.issue("signalbox")
        self.signer = signer

    @property
    def variables(self) -> dict[str, str]:
        """What whoever may come in has in the environment, but for an API key."""
        known = {
            "TEMPORAL_ADDRESS": self.address,
            "TEMPORAL_TLS_SERVER_CA_CERT_PATH": str(self.authority.certificate),
            "TEMPORAL_TLS_SERVER_NAME": SERVER_NAME,
        }
        if self.signer is not None:
            return known
        return known | {
            "TEMPORAL_TLS_CLIENT_CERT_PATH": str(self.client.certificate),
            "TEMPORAL_TLS_CLIENT_KEY_PATH": str(self.client.key),
        }

    @property
    def admin(self) -> ClientConnectConfig:
        """How somebody connects who may do everything, by no variable and no file."""
        tls = TLSConfig(
            server_root_ca_cert=self.authority.certificate.read_bytes(),
            domain=SERVER_NAME,
            client_cert=self.client.certificate.read_bytes(),
            client_private_key=self.client.key.read_bytes(),
        )
        found = ClientConnectConfig(target_host=self.address, namespace=self.namespace, tls=tls)
        if self.signer is not None:
            found["api_key"] = self.signer.api_key("temporal-system:admin")
        return found

    def is_ready(self) -> bool:
        return ports.accepts(self.port) and asyncio.run(answers_calls(self.admin, register=True))

    def _server_argv(self) -> list[str]:
        services = [*_SERVICES, "internal-frontend"] if self.signer else _SERVICES
        return [*super()._server_argv(), *(part for name in services for part in ("--service", name))]

    def _configuration(self) -> dict[str, Any]:
        made = super()._configuration()
        server: dict[str, Any] = {"certFile": str(self.certificate.certificate), "keyFile": str(self.certificate.key)}
        if self.signer is None:
            server |= {"requireClientAuth": True, "clientCaFiles": [str(self.authority.certificate)]}
        inside = {"serverName": SERVER_NAME, "rootCaFiles": [str(self.authority.certificate)]}
        worker = {"certFile": str(self.client.certificate), "keyFile": str(self.client.key), "client": inside}
        made["global"]["tls"] = {"frontend": {"server": server, "client": inside}, "systemWorker": worker}
        if self.signer is not None:
            made["global"]["authorization"] = {
                "jwtKeyProvider": {"keySourceURIs": [f"file://{self.signer.keys}"]},
                "permissionsClaimName": "permissions",
                "authorizer": "default",
                "claimMapper": "default",
            }
            # The server's own workers have no key: they go in by a door that only this machine has.
            made["services"]["internal-frontend"] = {
                "rpc": {
                    "grpcPort": self._ports.assign("temporal-internal"),
                    "membershipPort": self._ports.assign("temporal-internal-membership"),
                    "bindOnLocalHost": True,
                }
            }
            del made["publicClient"]
        return made


class SecuredPrefect(Prefect):
    """A Prefect that wants user and password."""

    auth_string = "signalbox:a pass:word"

    def command(self) -> Command:
        open_to_all = super().command()
        secured = {"PREFECT_SERVER_API_AUTH_STRING": self.auth_string, "PREFECT_API_AUTH_STRING": self.auth_string}
        return replace(open_to_all, environment={**open_to_all.environment, **secured})
