"""Files of models, read without loading them: pickles, archives, and what they unpack to.

Pure as the rest of ``evidence``: nothing here opens a file; where bytes lie (``source.Source``) is a tile's.
"""
