"""HDF5 files as h5py 3 wrote them, kept packed, as the tests' environment has no h5py."""

from __future__ import annotations

import base64
import zlib

__all__ = ["KERAS", "KERAS_LAMBDA", "LINKED", "OUTSIDE"]


def _packed(said: str) -> bytes:
    return zlib.decompress(base64.b64decode(said))


# A group with a dataset (gzip, shuffle), and attributes: model_config, a text, and layer_names, an array.
# KERAS has one Dense layer, KERAS_LAMBDA one Lambda layer; OUTSIDE has its numbers in /etc/passwd; LINKED
# leads to another file.
KERAS = _packed(
    "eNrtmDtPG0EQgGfv/DgREIYg8WhyOlGkoKNBVETY4QoUIqBAigI+2euHOA6RswUIWVBCx2+gokT5FUg0+Sn5B+R2dxbfnniTKplP"
    "ssY7OzuzWs+M5Dnzy5+HBqYGQOA4kIMSpLlFLqbNtd6vomQoT1FeWlpvy70J1JfQv2urdQv166uVirC+zaDj+AUlHSD+R/zKp69C"
    "buBa59O1Zdrt7NZ5uLXP281WJ07l5cIr445gvmbzehB8zO8hGEuyUsWt7UaNdlPoJxmTJ0t3d3CMOuGpZGaP1Ml50ayzp+qkNEl1"
    "QnXSrxPdzX/nTbvtTN/23xh37ctKmSXedN6d2qb/K1z/ytNv9Jx+k32vQexgLPnmJF0iDA75j60o2OGx1L9n2EcYM95dy/oD8ZYW"
    "V5ZZKlGM/pRw5NXCII5lJG/e9db4XpdHnXYQejOup/pdoj/y5IXi5Ou37JEyj2Kese5G7Y4wnu31vvd6qfscDFMOEARBEARBEARB"
    "EMTfhkFB/ednev1RSUsp9Hj1IWnDhDw64n6AnNS4MO7A+DHu58GR+5atHL6DOTWnsLQfsc8gbnUbjZCjD5CTJKGv80YYdPp6Byek"
    "tmVvTPWvIj5oMvem98jOse4GssSLEHNqds+cevSJc+fT5jqbbzl6WoIgCIIgiH+Kg81a9eSk4P5sVq+KULxhx38Akm2bsQ=="
)
KERAS_LAMBDA = _packed(
    "eNrtmDtvE0EQgGfv/DiFRDgBKY+G0ykFBSVFlIooMVwREUQoIqFgH/adbbE+A3dWiCIrKUOXjp6KMuJXINHwU/gHYR+zsfdEMJAO"
    "5pPsuZ2ZnT2tZ0byvA+3Hs7NrMyAxPOgBDWY5AL5uGqvjb2JkqE8RfnJMXpX2ZZQX8P4vqvXXdQ/e1qvS++LAuacsKKlB8T/SFjf"
    "eCLlHq5NPn1xbL/+oB3zxkHc63TzbCIvH/zlufOYr8W8noUQ83sObous1Oe2BmnS60j9MmNqZ+3yHTyrTj5MJDP7RZ2cVe06m1Yn"
    "tWWqE6qTcZ2Ybv69bPu9KvTt8Jrn7j7e2WIimsm7U9eOf47rb2X6jX6n3xTvaxY7GBNPnugSPDqM3zbSqB9nSn+LYR9hzLp3I9tX"
    "nPdoc2ebTSSK1Z8ER0GLR1mmTgrW/WA3fjOM07wX8eCeH+h+J/RHgXqhTDw+L27Zjvov21HBPRmmrbw3SOWG4P5BfUPY0yHn+ntf"
    "OBuPRn74WsXhOs5otD8ajfP9JuUMQRAEQRAEQRAEQUyDQUX/52dmfVdLRyvMePUq6cKS2jrv34GS0viw6MHiMdrL4Cm74+qAN2BN"
    "zykcE0faGWTdYZLwGGOAmiRJfTtOeJSP9R5OSF3H3VsZv4r8oMvate6jOMe6HMgSf4ScU7OfzKkXpuw7W7XXxXwr0dUSBEEQBEH8"
    "U7x70WqenFT8z53meRWqX9nxD2ROrIg="
)
OUTSIDE = _packed(
    "eNrr9HBx4+WS4mIAAQ4OBhYGAQZk8B8KNrCi8mHyCVCaEUp3QOkVTDBxRrCcBFRcEGo+urqQIFdXkOr/aABmTwYLhOZgGAUjEXi4"
    "OgaA6AgoH5ZKTzChqqtAS48eFNrLyMAGMYsRxoekZEZGiAAXVB2MZga6jBHqPkakFMsKpEF8JiYmsDA7gwaYzwjNIwY40jfMXA6o"
    "vcyMsJzBhaYyga7xIIEWzgEsqOr0U0uS9QsSi4vLU8D8YD9/F5A/Yf5TYB5N0+QAAONtOpk="
)
LINKED = _packed(
    "eNrr9HBx4+WS4mIAAQ4OBhYGAQZk8B8KKphR+TD5BCjNCKU7oPQKJpg4C1hOAiouADVfAWpeBFQ8JMjVFdl8dHtGwcgGHq6OAcjp"
    "hQNKn2BCVQdLhwFUspcJnnKxp0wuoEsYkdSzMShA3MHhwFghxMCgn1qSrJ9fkpFapJdhyqBfCVMHAIF6PnE="
)
