"""Sigstore: sign with an identity instead of a key, and verify that somebody did.

Signing asks three services of Sigstore's: a list of keys to trust (TUF), a certificate for the identity
(Fulcio) and a public log (Rekor). Verifying asks nobody: the bundle brings the certificate and the log's
promise, and the keys to trust are those that the installed ``sigstore`` package brings, or those of a file (a
Sigstore of one's own). Sources: docs.sigstore.dev; sigstore-python 4; model_signing 1.1.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tallystick.core.errors import BadInput, Failed, MissingTile, Refused, TallyError, Unavailable

__all__ = ["sign", "verify"]

TOKEN_CHARS_MAX = 20_000
BUNDLE_BYTES_MAX = 16 * 2**20
_OFFLINE = "sign with a key, which needs no network: tally sign MODEL --key mine.pem"


def sign(order: Mapping[str, Any]) -> Mapping[str, Any]:
    """Write ``signature`` for the files of ``folder``, with the identity of ``token``, or else the machine's.

    BadInput where there is no identity, or the token is none; Unavailable, naming what could not be reached.
    """
    _own_cache(str(order["cache"]))
    trust = Path(str(order["trust"])) if order.get("trust") else None
    try:
        from model_signing import signing
        from sigstore.oidc import IdentityError, IdentityToken, detect_credential
    except ImportError as missing:
        raise _lacking(missing) from None
    try:
        token = str(order.get("token") or "").strip() or detect_credential()
    except Exception as wrong:  # noqa: BLE001  reason: each service of a CI has errors of its own
        raise _said(wrong, "the identity of this machine cannot be had") from None
    if not token:
        hint = "--identity-token FILE, SIGSTORE_ID_TOKEN, or a CI job that may ask for one (id-token: write)"
        raise BadInput("there is no identity to sign with", where="--sigstore", hint=hint)
    try:
        who = IdentityToken(token[:TOKEN_CHARS_MAX])
    except IdentityError as wrong:
        raise BadInput(f"it is no identity token: {_line(wrong)}", where="--identity-token") from None
    try:
        config = signing.Config()  # type: ignore[no-untyped-call]  # its __init__
        config.use_sigstore_signer(identity_token=token, use_ambient_credentials=False, trust_config=trust)
        config.sign(Path(str(order["folder"])), Path(str(order["signature"])))
    except Exception as wrong:  # noqa: BLE001  reason: four libraries' errors, which share no base
        raise _said(wrong, "Sigstore did not sign it") from None
    return {"identity": who.identity, "issuer": who.federated_issuer, "version": version("model-signing")}


def verify(order: Mapping[str, Any]) -> Mapping[str, Any]:
    """The signed statement in ``bundle`` (base64) and which of ``identities`` signed it, offline.

    ``identities`` are pairs of identity and issuer. Refused where none of them did, or it is not as it was
    signed; BadInput for what is no bundle.
    """
    _own_cache(str(order["cache"]))
    try:
        from sigstore.models import Bundle, ClientTrustConfig
        from sigstore.verify import Verifier, policy
    except ImportError as missing:
        raise _lacking(missing) from None
    try:
        with Path(str(order["bundle"])).open("rb") as file:
            bundle = Bundle.from_json(file.read(BUNDLE_BYTES_MAX))
    except Exception as wrong:  # noqa: BLE001  reason: whatever a hostile bundle makes of it
        raise BadInput(f"it is no bundle of Sigstore's: {_line(wrong)}", where="bundle") from None
    try:
        trusted = (
            ClientTrustConfig.from_json(Path(str(order["trust"])).read_text())
            if order.get("trust")
            else ClientTrustConfig.production(offline=True)
        )
        verifier = Verifier(trusted_root=trusted.trusted_root)
    except Exception as wrong:  # noqa: BLE001  reason: a file of a person's, read by two libraries
        raise BadInput(f"whom to trust cannot be read: {_line(wrong)}", where="--trust-config") from None
    said: list[str] = []
    for identity, issuer in order["identities"]:
        try:
            asked = policy.Identity(identity=str(identity), issuer=str(issuer))
            kind, payload = verifier.verify_dsse(bundle, asked)
        except Exception as wrong:  # noqa: BLE001  reason: whatever a hostile bundle makes of it, it says no
            said.append(_line(wrong))
            continue
        told = {"identity": identity, "issuer": issuer, "version": version("sigstore")}
        return {**told, "payload_type": kind, "payload": base64.b64encode(payload).decode("ascii")}
    raise Refused(f"none of {len(said)} trusted identities signed it as it is: {said[-1] if said else ''}")


def _own_cache(folder: str) -> None:
    """Sigstore's libraries keep what they fetched below these: not in anybody's home."""
    os.environ |= {"HOME": folder, "XDG_DATA_HOME": folder, "XDG_CACHE_HOME": folder}


def _lacking(missing: ImportError) -> MissingTile:
    return MissingTile(f"it needs {missing.name}", where="sigstore", hint="pip install 'tallystick[supply]'")


def _said(wrong: BaseException, what: str) -> TallyError:
    """The library's error as ours; Unavailable where the reason behind it is that a host is not reached."""
    seen: BaseException | None = wrong
    for _ in range(20):
        if seen is None:
            break
        if host := _host_of(seen):
            return Unavailable(f"{what}: {host} cannot be reached", where="--sigstore", hint=_OFFLINE)
        seen = seen.__cause__ or seen.__context__
    return Failed(f"{what}: {_line(wrong)}", where="--sigstore", hint=_OFFLINE)


def _host_of(wrong: BaseException) -> str:
    """The host that an error of a connection names; empty for any other error."""
    import requests
    import urllib3

    if isinstance(wrong, requests.ConnectionError | requests.Timeout):
        return urlsplit(str(getattr(wrong.request, "url", "") or "")).hostname or ""
    if isinstance(wrong, urllib3.exceptions.MaxRetryError):
        return str(getattr(wrong.pool, "host", ""))
    return ""


def _line(wrong: BaseException) -> str:
    text = (str(wrong).splitlines() or [""])[0][:300]
    return "".join(c if c.isprintable() else " " for c in text) or type(wrong).__name__
