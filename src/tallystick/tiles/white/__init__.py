"""White-box attack tile: what a model withstands from those who can follow its gradients.

In the order of the work: ``ground`` (the samples, where each may go, the nearest adversarial of each),
``aims`` (what is to rise), ``climb`` (gradient steps towards it), ``nearest`` (steps towards the nearest
boundary), ``legs`` (who takes part, from where), ``carlini`` (least squares), ``masking`` (signs that
gradients mislead), ``adaptive`` (attacks that fit them) and ``tile`` (the probes made of these). It needs
numpy alone: the model is reached through ``Victim.pull``.
"""
