"""Gradients of ONNX models in numpy, float32: reverse mode over the operators of classifiers."""
