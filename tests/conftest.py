"""Before JAX starts: eight CPU devices, so that meshes can be tested anywhere, and compilation that does not dawdle."""

import os

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_NUM_CPU_DEVICES', '8')
# Tests compile a thousand small programs and run each for milliseconds: half of their time was LLVM's optimiser.
os.environ.setdefault('XLA_FLAGS', '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true')
