"""A certificate for 127.0.0.1, made for one run, and the bundle that makes this process trust it."""

import ipaddress
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_ADDRESS = ipaddress.ip_address("127.0.0.1")
_LIFETIME = timedelta(days=30)


@dataclass(frozen=True)
class Certificate:
    """The files of a run's own authority: `chain` and `key` for the server, `bundle` for the client."""

    chain: Path
    key: Path
    bundle: Path


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _system_bundle() -> str:
    paths = [
        os.environ.get("SSL_CERT_FILE"),
        ssl.get_default_verify_paths().cafile,
        "/etc/ssl/certs/ca-certificates.crt",
    ]
    return next((Path(path).read_text() for path in paths if path and Path(path).is_file()), "")


def make_certificate(folder: Path) -> Certificate:
    """Make an authority that can vouch for 127.0.0.1 alone, and a certificate from it; its key is thrown away."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    begin = datetime.now(UTC) - timedelta(hours=1)
    issuer = _name("harbor_nb practice cloud of one run")
    only_here = x509.NameConstraints([x509.IPAddress(ipaddress.ip_network("127.0.0.1/32"))], None)
    base = x509.CertificateBuilder().issuer_name(issuer).not_valid_before(begin).not_valid_after(begin + _LIFETIME)
    authority = (
        base.subject_name(issuer).public_key(authority_key.public_key()).serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(only_here, critical=True)
        .sign(authority_key, hashes.SHA256())
    )  # fmt: skip
    leaf = (
        base.subject_name(_name("127.0.0.1")).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(_ADDRESS)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )  # fmt: skip
    made = Certificate(folder / "server.pem", folder / "server.key", folder / "bundle.pem")
    made.chain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    made.key.touch(mode=0o600)
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    made.bundle.write_text(_system_bundle() + "\n" + authority.public_bytes(serialization.Encoding.PEM).decode())
    return made


def trust(bundle: Path) -> None:
    """Make this process's libraries trust the bundle, also one that is started with an emptied `os.environ`.

    Daytona's SDK empties `os.environ` while it makes its upload client. A variable that `os.environ` does not know
    is not emptied, and the client, which is not Python, reads it.
    """
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        os.environ.pop(name, None)
    os.putenv("SSL_CERT_FILE", str(bundle))
