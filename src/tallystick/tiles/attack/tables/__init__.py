"""Attacks on tables: what an edit may be, what it costs, and the cheapest that turns an answer.

Distances of a table, and so eps, are the largest change of any column in units of that column's span: its
``scale``, or its range where it has none. With no scale, eps 0.05 allows each number to move by a twentieth
of its range. To become another category a one-hot column changes by 1: with a range of 0 to 1 and no scale
that is a distance of 1, so that no eps below 1 lets a category change; a ``scale`` of 10 makes it a distance
of 0.1.
"""
