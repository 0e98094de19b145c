"""How long the path checker takes, by the length of revocation lists, beside `openssl verify`; printed with -s."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ca
import path_checker
import pytest
from ca import Authority
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from path_checker import Running

from pam_mfa.verify import client
from pam_mfa.verify.base import Check, Revocation, Trust

SLACK = 3
ROUNDS = 40
LENGTHS = (0, 10_000, 100_000)
ROOT = Authority.root()
ISSUING = ROOT.authority(key=ca.old_key("rsa-2048"))
ALICE = ISSUING.leaf()
WANT = Check(ca.der(ALICE.certificate), Revocation.STRICT, (ca.LOGON,))


def put(directory: Path, length: int) -> None:
    """A list of that many others."""
    crl = ISSUING.crl(range(10**18, 10**18 + length))
    pem = x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM)
    ca.lay(directory, crls={"issuing.crl": crl})
    (directory / "all.pem").write_bytes(pem + x509.load_der_x509_crl(ROOT.crl()).public_bytes(Encoding.PEM))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    files = {"root.pem": ca.pem(ROOT.certificate)}, {"issuing.pem": ca.pem(ISSUING.certificate)}
    (tmp_path / "alice.pem").write_bytes(ca.pem(ALICE.certificate))
    return ca.lay(tmp_path / "ca", *files, {"root.crl": ROOT.crl()})


@pytest.fixture
def checker(directory: Path, tmp_path: Path) -> Iterator[Running]:
    with path_checker.running(directory, tmp_path / "socket") as checker:
        yield checker


def took(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def test_lists_by_their_length(directory: Path, tmp_path: Path, checker: Running) -> None:
    """Once a list has been read its length costs next to nothing, and never as much as a program that reads it."""
    files = {
        "-CAfile": directory / "anchors/root.pem",
        "-untrusted": directory / "intermediates/issuing.pem",
        "-CRLfile": directory / "all.pem",
    }
    openssl = ["openssl", "verify", "-crl_check_all", *(word for pair in files.items() for word in map(str, pair))]
    openssl.append(str(tmp_path / "alice.pem"))

    def ours() -> None:
        assert client.ask(WANT, checker.connect).trust is Trust.GOOD

    def theirs() -> None:
        subprocess.run(openssl, check=True, capture_output=True)

    medians = []
    for length in LENGTHS:
        put(directory, length)
        first = took(ours)
        pairs = [(took(ours), took(theirs)) for _ in range(ROUNDS)]
        own, other = (statistics.median(each) for each in zip(*pairs, strict=True))
        medians.append(own)
        print(f"\n{length:7} revoked: first {first * 1e3:5.1f} ms, then p50 {own * 1e3:4.1f} ms", end="")
        print(f", max {max(each for each, _ in pairs) * 1e3:4.1f} ms; openssl verify p50 {other * 1e3:5.1f} ms", end="")
        assert own < SLACK * other
    assert medians[1] < SLACK * medians[0]
