"""Tests of what people do over and over with the verbs."""
