"""Gradients of ONNX models in numpy, float32: reverse mode over the operators of classifiers.

A floor of its own below the ports, of which tiles make what they offer: nothing here but arrays and graphs.
"""
