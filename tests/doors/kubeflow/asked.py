"""What the tests of bad input share."""

from __future__ import annotations

import json

SPEC = {"pipelineInfo": {"name": "p"}}
FILE = json.dumps(SPEC).encode()


async def refused(house, answer, status, code, said=""):
    """The answer is an error in the right shape, and nothing was told to the ledger."""
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), body
    assert body["error"] == body["message"]
    assert said in body["message"], body
    assert [d["@type"] for d in body["details"]] == ["type.googleapis.com/google.rpc.ErrorInfo"]
    assert house.ledger.facts == []
