"""PIV cards of the tests, and what becomes of them: keys, certificates, signatures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID
from devices_bench import Bench, Session
from vdev.iso7816 import Card
from vdev.piv import AUTHENTICATION, VERIFY, PivApplet, PrivateKey

from pam_mfa.devices.base import Carries, Failed, Failure, Scheme, Sign, Signed, Slot, Use

MESSAGE = bytes(range(32))
PIN = "123456"
SIGN = Sign(MESSAGE, (Slot.AUTHENTICATION,), 60)
KINDS = ["rsa2048", "rsa3072", "rsa4096", "p256", "p384"]
DIGEST = {"p256": hashes.SHA256(), "p384": hashes.SHA384()}


@cache
def private(kind: str) -> PrivateKey:
    """A key, the same one each time: RSA takes its time."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    return ec.generate_private_key(ec.SECP256R1() if kind == "p256" else ec.SECP384R1())


def certificate(key: PrivateKey, name: str = "alice") -> bytes:
    """A self-signed one, DER."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime(2020, 1, 1)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, start, start + timedelta(days=36500))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def piv(kind: str = "p256", slots: Sequence[int] = (AUTHENTICATION,), **more: Any) -> PivApplet:
    """An applet with one key, and a certificate for it, in all of these slots."""
    return PivApplet(dict.fromkeys(slots, private(kind)), dict.fromkeys(slots, _certificate(kind)), **more)


@cache
def _certificate(kind: str) -> bytes:
    """The same each time: a twin of a card has the same one."""
    return certificate(private(kind))


def verify(kind: str, signed: Signed, message: bytes) -> None:
    """Raises InvalidSignature."""
    public = private(kind).public_key()
    if isinstance(public, rsa.RSAPublicKey):
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        padded = pss if signed.scheme is Scheme.PSS else padding.PKCS1v15()
        public.verify(signed.signature, message, padded, hashes.SHA256())
    else:
        assert signed.scheme is Scheme.ECDSA
        public.verify(signed.signature, message, ec.ECDSA(DIGEST[kind]))


def use(session: Session, pin: str = PIN, slot: Slot = Slot.AUTHENTICATION) -> Session:
    """Wait for a card, and have it sign."""
    return session.ask(Use(session.until(Carries).device, slot, pin))


def pins_sent(card: Card) -> int:
    """How often a PIN was given to the card."""
    return len([each for each in card.commands(VERIFY) if len(each.command) > 5])


def outcome(bench: Bench, request: Sign = SIGN) -> Failure:
    """Why the only card is out. It never gets as far as a signature."""
    with bench.session(request) as session:
        while not isinstance(reply := session.reply(), Failed):
            assert isinstance(reply, Carries)
            session.ask(Use(reply.device, request.slots[0], PIN))
    return reply.why
