"""Before JAX starts: eight CPU devices, so that meshes can be tested anywhere."""

import os

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_NUM_CPU_DEVICES', '8')
