"""The Open Inference Protocol, version 2, over REST.

The hub's side is :mod:`tallystick.doors.oip.app`, which never looks into a body. Tensors are read and
written by :mod:`tallystick.doors.oip.codec`, in the processes that serve and in clients.
"""
