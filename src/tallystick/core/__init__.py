"""The nouns and their rules: pure code on the standard library, with no clock, randomness or I/O.

Read in the order of the flow; a module imports only those before it:
errors, names, facts, data, pipeline, values, run,
model, verdict, endpoint, signal, remedy, wall.
"""
