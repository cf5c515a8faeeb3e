"""Doors: each translates one public protocol to verbs and back, and holds no rule of its own."""
