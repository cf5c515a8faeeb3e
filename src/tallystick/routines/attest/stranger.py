"""When a model is signed: by itself as a run puts it out, and else by somebody's word."""

from __future__ import annotations

import logging

from tallystick.core.attestation import Attestation
from tallystick.core.errors import TallyError
from tallystick.core.model import ModelRef, ModelVersion
from tallystick.hub.house import House
from tallystick.hub.register import admit
from tallystick.routines.attest.papers import current
from tallystick.routines.attest.sign import attest, vouch

__all__ = ["attested", "vouch_for"]

_log = logging.getLogger(__name__)


async def attested(house: House, model: ModelVersion) -> ModelVersion:
    """The model, once what the hub knows of it is signed; one that is attested already is left as it is.

    Where that fails the model is registered all the same: it is just not vouched for, and its verdict says
    so.
    """
    try:
        if await current(house, model) is None:
            await attest(house, model)
    except TallyError as wrong:
        _log.warning("%s is not attested: %s", model.key, wrong)
    return model


async def vouch_for(house: House, ref: ModelRef) -> Attestation:
    """Sign a model by somebody's word, ``tally sign``; what may be loaded from now on is loaded and read.

    Refused where its files are never loaded, whoever vouches for them: then there is nothing to say.
    """
    model = await admit(house, ref)
    signed = await vouch(house, model)
    await admit(house, ModelRef(model.name, model.version))
    return signed
