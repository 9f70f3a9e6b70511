"""Molmo and Molmo2 in JAX/Flax.

The public face, stable:

    molmo = molmo_jax.from_pretrained(path_or_hub_id, dtype='bfloat16', mesh=None)
    inputs = molmo.processor(messages)
    molmo.logits(inputs), molmo.generate(messages), molmo.generate_ids(inputs)
    molmo.save_pretrained(directory)
"""

from typing import Any

__version__ = '0.2.0'
__all__ = ['Molmo', 'Processor', 'from_pretrained']


def __getattr__(name: str) -> Any:
  # on first use: processes that only read data import this package too, and need no jax
  if name in __all__:
    from molmo_jax import pretrained
    return getattr(pretrained, name)
  raise AttributeError(f'molmo_jax has no attribute {name!r}')
