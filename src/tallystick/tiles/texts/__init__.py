"""Evasion on texts: words misspelt, left out, repeated, inflected and replaced, as few as it takes."""
