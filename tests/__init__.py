"""Tests of molmo_jax; `python -m tests.golden` compares with golden data.

Before JAX starts: compilation that does not dawdle. The tests compile a thousand small programs and
run each for milliseconds; XLA's and LLVM's optimisers were most of their time.
"""

import importlib.metadata
import os

_FLAGS = ['--xla_backend_optimization_level=0', '--xla_llvm_disable_expensive_passes=true']
# XLA ends the program for a flag that it does not know
if importlib.metadata.version('jaxlib').startswith('0.10.'):
  _FLAGS.append('--xla_cpu_use_fusion_emitters=false')
os.environ.setdefault('XLA_FLAGS', ' '.join(_FLAGS))
