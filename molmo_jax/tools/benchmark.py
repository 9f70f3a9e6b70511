"""Times this library, and with --peer transformers on the same weights, in turns on the same
machine.

  python -m molmo_jax.tools.benchmark generate --peer
  python -m molmo_jax.tools.benchmark preprocess --peer --size=1920,1080 --max_crops=8
  python -m molmo_jax.tools.benchmark train --peer

generate: tokens/s of greedy decoding after the prompt. preprocess: images/s from pixels in memory
to crops and pooling windows. train: tokens/s of an AdamW step on text. The model has 111 M random
parameters in float32, on CPU.
"""

from molmo_jax.lab.benchmark.environment import restart_with_huge_pages

# before JAX and torch start, which is why the rest is imported afterwards
restart_with_huge_pages()

from absl import app, flags  # noqa: E402

from molmo_jax.lab.benchmark import command  # noqa: E402

if __name__ == '__main__':
  flags.adopt_module_key_flags(command)
  app.run(command.main)
