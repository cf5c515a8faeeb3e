"""What the errand ``judge`` is made of.

In the order of the work: ``offers`` (installed probes), ``rows`` (the data, as the domain says it lies),
``victims`` and ``twins`` (the model, as it can be asked; ``endpoint``: over HTTP), ``base`` (accuracy as
it is and under noise), ``engine`` (one probe after another), ``merging`` (what each found, checked and
confirmed), ``showing`` (examples), ``parts`` (how each result reaches the hub) and ``pace`` (how long it
still takes).
"""
