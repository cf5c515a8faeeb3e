"""The papers that go with a model: what is signed, and what others' tools read.

In the order of the flow: ``envelope`` (DSSE), ``tree`` (files by digest), ``statement`` (in-toto, and what a
verdict says), ``provenance`` (SLSA), ``oms`` (OpenSSF model signing's ``model.sig``), ``bom`` (CycloneDX).
"""
