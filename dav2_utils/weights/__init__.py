"""Weights into models and out of them.

Read `loading` first: `load_model` and `load_into` load completely or raise.
"""
