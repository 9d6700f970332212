"""The model, its weights by name, and its maps.

Read `model` first; `dinov2` is its encoder, `hub` finds official and embedded weights.
"""
