"""The report on a verdict: one content as a page, a self-contained HTML file, a Markdown model card.

``content`` decides what is said and in which order; ``charts`` draws; ``page``, ``whole`` and ``markdown``
only write it down. An engineer, a manager and an auditor read the same report: the first lines say what
follows from it, the pictures why, and the tables at the end what was done, with what, and how to do it again.
"""
