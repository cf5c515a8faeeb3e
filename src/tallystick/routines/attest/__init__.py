"""Attest: gather where a model came from, sign it, and hand it along with the model."""

from tallystick.routines.attest.consent import consent, withdraw_consent
from tallystick.routines.attest.papers import bill, current, newest_verdict
from tallystick.routines.attest.sign import Draft, attest, draft, refresh, take_signed, vouch
from tallystick.routines.attest.stranger import attested, vouch_for

__all__ = [
    "Draft",
    "attest",
    "attested",
    "bill",
    "consent",
    "current",
    "draft",
    "newest_verdict",
    "refresh",
    "take_signed",
    "vouch",
    "vouch_for",
    "withdraw_consent",
]
