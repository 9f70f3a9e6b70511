"""Molmo and Molmo2 in JAX/Flax: train.py and eval.py show how the rooms below fit together; README.md lists them."""

__version__ = '0.1.0'
