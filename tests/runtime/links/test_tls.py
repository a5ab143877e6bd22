"""Events to a real broker over TLS, with authorities and certificates of the test's own."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hyperline.errors import InputError
from hyperline.runtime.links.specs import make_link


class Authority:
    """Signs certificates; what it writes are PEM files in its folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        certificate = (
            self._builder(self._subject, self._key, timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, life: timedelta) -> x509.CertificateBuilder:
        now = datetime.now(timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + life)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def certify(
        self, name: str, address: str = "127.0.0.1", life: timedelta = timedelta(days=1), passphrase: bytes = b""
    ) -> tuple[Path, Path]:
        """Return the files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        certificate = (
            self._builder(subject, key, life).add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        )
        files = self._folder / f"{self._name}-{name}.crt", self._folder / f"{self._name}-{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        sealing = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealing))
        return files


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def secure(broker, authority: Authority) -> Callable[..., None]:
    """Start the broker with TLS: with this certificate, and whether it asks for the client's."""

    def start(certificate: tuple[Path, Path], ask: bool = False) -> None:
        broker.start(
            f"cafile {authority.path}\ncertfile {certificate[0]}\nkeyfile {certificate[1]}\n"
            f"require_certificate {str(ask).lower()}\n"
        )

    return start


def sent(aircraft, spec: str) -> dict:
    """Fly ten events over one link; its report."""
    links = aircraft.links(spec)
    aircraft.fly(links, 10)
    links.close(10)
    (report,) = links.report()["links"].values()
    return report


def fault(aircraft, spec: str) -> str:
    """Fly with a link that cannot connect; its error."""
    links = aircraft.links(spec)
    (name,) = links.report()["links"]
    assert name.startswith("mqtts://")
    assert aircraft.eventually(lambda: links.report()["links"][name]["state"] == "down")
    report = links.report()["links"][name]
    assert report["sent"] == 0
    return report["error"]


def test_events_go_over_tls_to_a_broker_whose_authority_is_known(aircraft, broker, authority, secure) -> None:
    secure(authority.certify("broker"))
    report = sent(aircraft, f"mqtts://127.0.0.1:{broker.port}/uav1?ca={authority.path}")
    assert (report["state"], report["sent"], report["error"]) == ("closed", 10, None)


@pytest.mark.parametrize("in_one_file", [True, False])
def test_a_broker_that_asks_for_a_certificate_gets_ours(
    aircraft, broker, authority: Authority, secure, in_one_file: bool
) -> None:
    secure(authority.certify("broker"), ask=True)
    certificate, key = authority.certify("uav1")
    spec = f"mqtts://127.0.0.1:{broker.port}/uav1?ca={authority.path}"
    assert "it may ask for a certificate: cert=FILE" in fault(aircraft, spec)
    if in_one_file:
        certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    own = f"&cert={certificate}" + ("" if in_one_file else f"&key={key}")
    assert sent(aircraft, spec + own)["sent"] == 10


def test_a_broker_that_cannot_prove_who_it_is_gets_nothing(
    aircraft, broker, authority: Authority, secure, tmp_path: Path
) -> None:
    spec = f"mqtts://127.0.0.1:{broker.port}/uav1?ca="
    secure(authority.certify("broker"))
    assert "certificate verify failed" in fault(aircraft, f"{spec}{Authority(tmp_path, 'stranger').path}")
    assert "certificate verify failed" in fault(aircraft, spec.removesuffix("?ca="))  # nor does the system know it
    for certificate, reason in (
        (authority.certify("elsewhere", address="127.0.0.2"), "IP address mismatch"),
        (authority.certify("old", life=-timedelta(days=1)), "certificate has expired"),
    ):
        broker.stop()
        secure(certificate)
        assert reason in fault(aircraft, f"{spec}{authority.path}")


def test_a_broker_without_tls_is_down_and_not_spoken_to_in_the_clear(aircraft, broker, authority: Authority) -> None:
    broker.start()
    assert "Error" in fault(aircraft, f"mqtts://127.0.0.1:{broker.port}/uav1?ca={authority.path}")


def test_files_that_cannot_serve_are_said_before_the_flight(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.certify("uav1")
    _, others = authority.certify("uav2")
    _, sealed = authority.certify("uav3", passphrase=b"secret")
    for options, message in (
        (f"ca={tmp_path}/nowhere.pem", "nowhere.pem cannot be read as certificates of authorities"),
        (f"ca={key}", "uav1.key cannot be read as certificates of authorities"),
        (f"cert={tmp_path}/nowhere.pem", "nowhere.pem cannot be read as a certificate and its key"),
        (f"cert={certificate}", "uav1.crt cannot be read as a certificate and its key"),
        (f"cert={certificate}&key={others}", "cannot be read as a certificate and its key"),
        (f"cert={certificate}&key={sealed}", "without passphrase"),
        (f"key={key}", "uav1.key belongs to a certificate, and none is given"),
        ("verify=0", "no option 'verify'"),
    ):
        with pytest.raises(InputError, match=message):
            make_link(f"mqtts://broker/uav1?{options}")
    with pytest.raises(InputError, match="no option 'ca'"):
        make_link(f"mqtt://broker/uav1?ca={authority.path}")
