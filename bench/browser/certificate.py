"""A certificate for one run of the server, made by itself: a browser allows threads only on a secure page."""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

LIFETIME = datetime.timedelta(days=2)


@dataclass(frozen=True)
class Certificate:
    """Files of the key and the certificate, and its SHA-256 fingerprint as browsers show it."""

    key: Path
    certificate: Path
    fingerprint: str


def make_certificate(folder: Path, addresses: list[str]) -> Certificate:
    """Write a key (readable by its owner only) and a certificate for some IP addresses into a folder."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "empathy-edge phone")])
    names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(item)) for item in addresses]
    names.append(x509.DNSName("localhost"))
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with open(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
        handle.write(private)
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    fingerprint = made.fingerprint(hashes.SHA256()).hex(" ").upper()  # rich would make an emoji of :CD:
    return Certificate(key_file, certificate_file, fingerprint)
