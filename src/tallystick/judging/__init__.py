"""The gate: the verbs ``judge`` and ``deploy``, and how the evidence is gathered that they stand on.

``gather`` asks for what is ``sought`` and not yet known (``recall``), has the rest probed (``probe``), and
puts it together; ``weighed`` is what of it can change by itself. A floor of its own above the verbs, as
judging has models admitted and their files vouched for.
"""
