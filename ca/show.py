"""What `cellnet ca show` prints: the certificates of a CA directory, without using a key or changing anything."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from ca import files
from ca.certificate import Validity
from ca.errors import CaRefused
from ca.passphrase import is_encrypted
from ca.pem import certificates, chain_bytes, fingerprint


@dataclass(frozen=True, slots=True)
class Summary:
    """One certificate for people. `serial` and `fingerprint` (SHA-256) are hex digits, times UTC."""

    subject: str
    serial: str
    not_before: datetime
    not_after: datetime
    fingerprint: str

    @classmethod
    def of(cls, certificate: x509.Certificate) -> "Summary":
        """Read off `certificate`."""
        valid = Validity.of(certificate)
        return cls(
            subject=certificate.subject.rfc4514_string(),
            serial=f"{certificate.serial_number:x}",
            not_before=valid.not_before,
            not_after=valid.not_after,
            fingerprint=fingerprint(certificate),
        )


def summaries(bundle: bytes) -> tuple[Summary, ...]:
    """Of each certificate of a PEM bundle."""
    return tuple(map(Summary.of, certificates(bundle, where="the bundle")))


@dataclass(frozen=True, slots=True)
class Shown:
    """A CA directory. `cell` is None where only a root is kept; `root_key_here`: whether its key is, without a passphrase."""

    root: Summary
    cell: Summary | None
    root_key_here: bool
    bundle: bytes


def show(directory: Path) -> Shown:
    """Read `directory`. Raises CaRefused if there is no root, or a certificate cannot be read."""
    text = files.read(directory / "root.crt")
    if text is None:
        raise CaRefused(f"{directory} has no root.crt", hint="'cellnet ca init' makes one, and so does the agent's first start")
    roots = certificates(text, where=str(directory / "root.crt"))
    mine, key = files.read(directory / "cell.crt"), files.read_secret(directory / "root.key")
    return Shown(
        root=Summary.of(roots[0]),
        cell=None if mine is None else Summary.of(certificates(mine, where=str(directory / "cell.crt"))[0]),
        root_key_here=key is not None and not is_encrypted(key),
        bundle=chain_bytes(roots[:1]),
    )
