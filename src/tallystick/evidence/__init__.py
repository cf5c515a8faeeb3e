"""What was found out about a model, and how it is weighed, as values: as pure as core.

In the order of the flow: ``figures`` (a measured number and how sure it is), ``domain`` (what a row is and
how it may be changed), ``probe`` (one attack or check and what it found), ``evidence`` (all of them, of one
model), ``measures`` (the names that rules may ask for), ``policy`` (rules, exceptions, budget), ``weigh``
(policy and evidence to a verdict's findings).
"""
