"""CPU of a token's check with cached keys, beside the bare signature: ``python tests/bench_tokens.py``.

Floor: the verification by the cryptography library alone, which no Python service can do without.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from forge import claims, ec_key, jwk, rsa_key, token

from cds_service.store.database import Database
from cds_service.store.schema_version import upgrade
from cds_service.store.seen_tokens import SeenTokens
from cds_service.trust.clients import Client, ClientRegistry, client_of
from cds_service.trust.keys import KeyRing
from cds_service.trust.seen_tokens import SeenInMemory
from cds_service.trust.tokens import TokenCheck

ROUNDS = 400
KEYS = {"ES384": ec_key(), "ES256": ec_key(ec.SECP256R1), "RS384": rsa_key(), "RS384, 3072 bits": rsa_key(3072)}
ENDPOINT = "https://cds.example/cds-services/infant-motor-workup"


class One:
    """A source of one client with all keys."""

    def clients(self) -> list[Client]:
        keys = [jwk(key, name) for name, key in KEYS.items()]
        keys = [{**found, "kid": found["kid"].replace(" ", "-").replace(",", "")} for found in keys]
        algorithms = ["ES384", "ES256", "RS384"]
        record = {"id": "c", "name": "C", "issuer": "https://ehr.example", "jwks": {"keys": keys}}
        return [client_of({**record, "algorithms": algorithms}, "bench")]


def microseconds(work: Callable[[int], object]) -> float:
    """CPU per round, of this thread alone; the better half of five runs."""
    runs = []
    for _ in range(5):
        started = time.thread_time()
        for number in range(ROUNDS):
            work(number)
        runs.append((time.thread_time() - started) / ROUNDS * 1e6)
    return sorted(runs)[1]


def floor(name: str, text: str) -> Callable[[int], object]:
    """The signature alone."""
    import base64

    content, _, signed = text.rpartition(".")
    raw = base64.urlsafe_b64decode(signed + "==")
    public = KEYS[name].public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        half = len(raw) // 2
        der = encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))
        method = ec.ECDSA(hashes.SHA256() if name == "ES256" else hashes.SHA384())
        return lambda _: public.verify(der, content.encode(), method)
    return lambda _: public.verify(raw, content.encode(), padding.PKCS1v15(), hashes.SHA384())


def main() -> None:
    """Print the table."""
    registry = ClientRegistry([One()])
    keys = KeyRing(registry, lambda _: b"")
    now = int(time.time())
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/bench.sqlite3")
        upgrade(database)
        stored, memory = SeenTokens(database), SeenInMemory(time.time)
        check = TokenCheck(registry, keys, memory)
        print("microseconds of CPU per token   signature alone   checked   difference")
        for name, key in KEYS.items():
            kid = name.replace(" ", "-").replace(",", "")
            text = token(key, claims(), alg=name[:5], kid=kid)
            bare = microseconds(floor(name, text))
            whole = microseconds(lambda _, text=text: check.verify(f"Bearer {text}", ENDPOINT, now))  # type: ignore[misc]
            print(f"{name:32}{bare:15.0f}{whole:10.0f}{whole - bare:13.0f}")
        numbers = iter(range(10**9))
        used = microseconds(lambda _: stored.use("c", str(next(numbers)), now + 300))
        print(f"id noted in SQLite, durably     {used:15.0f}")
        started = time.perf_counter()
        for number in range(100):
            stored.use("d", str(number), now + 300)
        print(f"   the same by the clock        {(time.perf_counter() - started) / 100 * 1e6:15.0f}")
        print(
            f"id noted in memory              {microseconds(lambda _: memory.use('c', str(next(numbers)), 9**9)):15.1f}"
        )


if __name__ == "__main__":
    main()
