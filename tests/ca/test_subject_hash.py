"""The names of roots in a folder are those under which OpenSSL looks for them, however a subject is written."""

import subprocess

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type as Text
from cryptography.x509.oid import NameOID

from ca.pem import chain_bytes
from ca.subject_hash import subject_hash
from tests.testlib.certificates import make_ca, named_root

CN, O, OU = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME  # noqa: E741
Attribute, Set = x509.NameAttribute, x509.RelativeDistinguishedName


def of_openssl(certificate: x509.Certificate) -> str:
    argv = ["openssl", "x509", "-noout", "-subject_hash"]
    return subprocess.run(argv, input=chain_bytes((certificate,)), capture_output=True, check=True).stdout.decode().strip()


@pytest.mark.parametrize(
    "name",
    [
        x509.Name([]),
        x509.Name([Attribute(CN, " \t ")]),
        x509.Name(
            [
                Attribute(CN, "  Root   CELL \t\v internal\n"),
                Attribute(O, "ÄÖ  x Ünïcode "),
                Attribute(NameOID.COUNTRY_NAME, "DE"),
            ]
        ),
        x509.Name(
            [
                Set([Attribute(CN, "b"), Attribute(O, "A"), Attribute(OU, "zz" * 30)]),
                Set([Attribute(CN, "B"), Attribute(CN, "a")]),
            ]
        ),
        x509.Name([Set([Attribute(CN, "Ä" * 32), Attribute(O, "Ü " * 30), Attribute(OU, "€" * 21)])]),
        x509.Name([Attribute(CN, "Ä x  Y", _type=Text.BMPString), Attribute(O, "Uni  V", _type=Text.UniversalString)]),
        x509.Name(
            [Attribute(NameOID.EMAIL_ADDRESS, "A@B.c ", _type=Text.IA5String), Attribute(O, "T  61", _type=Text.T61String)]
        ),
        x509.Name([Attribute(NameOID.SERIAL_NUMBER, "12  34", _type=Text.NumericString)]),
    ],
)
def test_the_hash_of_any_subject_is_openssls(name: x509.Name) -> None:
    certificate = named_root(name)
    assert subject_hash(certificate) == of_openssl(certificate)


def test_the_hash_of_our_own_roots_is_openssls() -> None:
    certificate = make_ca().root.certificate
    assert subject_hash(certificate) == of_openssl(certificate)
