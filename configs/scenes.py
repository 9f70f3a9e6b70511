"""A tiny Molmo2 on synthetic scenes: the default of train.py, minutes on two CPU cores.

  python train.py                                     # data, training, evaluation → runs/scenes
  python train.py --config.model.blind=True --workdir=runs/blind   # the control: no visual features
"""

from ml_collections import ConfigDict

from molmo_jax.experiment import complete

ROOT = 'data/scenes'


def get_config() -> ConfigDict:
  """Small scenes on a CPU: the default of train.py."""
  c = ConfigDict()
  c.name = 'scenes'
  c.seed = 0
  c.scenes = ConfigDict(dict(train=dict()))   # molmo_jax/scenes/config.py; here: its defaults

  c.model = ConfigDict(dict(
    vit=dict(image_size=48, patch_size=12, width=64, layers=2, heads=2, head_dim=32, mlp=128),
    connector=dict(vit_layers=(-1, -2), heads=2, kv_heads=2, head_dim=32, width=64, hidden=128,
                   layout_embedding=True, layout_grid=16, layout_crops=8),
    llm=dict(vocab=512, extra_vocab=16, width=96, layers=3, heads=3, kv_heads=3, head_dim=32,
             mlp=192, rope_theta=1e4, tied=True), bidirectional='image_tokens', blind=False,
    dtype='float32', remat='none', unroll=3, attention='short'))

  c.preprocess = ConfigDict(dict(
    image=dict(crop_size=48, patch_size=12, overlap_margins=(1, 1), max_crops=4, max_crops_eval=4),
    video=dict(max_frames=6, max_frames_eval=6), text=dict(message_format='none')))

  c.data = ConfigDict(dict(train=f'{ROOT}/train.jsonl', validation=f'{ROOT}/val.jsonl',
                           tokenizer=f'{ROOT}/tokenizer.json', batch_size=16, sequence_length=128,
                           crops=6, visual_tokens=24, on_error='skip', scenes_root=ROOT))

  # the layout tables start at zero, and must grow as large as the features that they are added to:
  # larger steps
  c.optimizer = ConfigDict(dict(b2=0.98, groups=dict(
    layout=dict(pattern='connector/layout/', learning_rate=1e-2, warmup=100, optional=True),
    others=dict(pattern='(?!connector/layout/)', learning_rate=8e-4, warmup=100))))
  c.training = ConfigDict(dict(steps=2000, log_every=20, checkpoint_every=1000, loss_chunk=256))
  c.evaluation = ConfigDict(
    dict(batch_size=64, generation=dict(max_new_tokens=24), smallest_shape=(96, 6, 24)))
  return complete(c)
