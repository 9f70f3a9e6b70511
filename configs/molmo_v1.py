"""Molmo v1 on images: letterboxed crops of CLIP at 336 px, pooled crop by crop, a causal mask,
padding embeddings.

  python train.py --config=configs/molmo_v1.py:size=7b_d --config.init_llm=Qwen/Qwen2-7B \
    --config.init_vit=clip336 \
    --config.data.train=mine/train.jsonl --config.data.validation=mine/val.jsonl \
    --config.data.tokenizer=qwen2/tokenizer.json
  python train.py --config=configs/molmo_v1.py:size=1b_e,stage=multitask,vision=siglip …

size: 7b_d (default), 7b_o, 72b, 1b_e (mixture of experts); stage: captioner (default: the connector
starts at random) or multitask (from the captioner's weights); data: a folder of manifests that
prepare_dataset wrote, of which those of the stage are mixed at its rates; vision: clip (default,
all releases), siglip, dinov2 or metaclip. What the captioner starts from, `init_llm` and
`init_vit`: docs/checkpoints.md.
"""

import dataclasses
import tomllib
from pathlib import Path

from ml_collections import ConfigDict

from configs import molmo2
from configs.stages import options
from molmo_jax.datasets.recipes import recipe
from molmo_jax.experiment import complete
from molmo_jax.model.tower import VITS
from molmo_jax.preprocess.types import MOLMO_V1

# sizes of the language models, and what a stage changes
_TABLES = tomllib.loads(Path(__file__).with_suffix('.toml').read_text(encoding='utf-8'))
LLM, STAGES = _TABLES['llm'], _TABLES['stage']
TOWERS = {name: dict(row, keep_unread=True) for name, row in VITS.items()}
# how the training code brings an image to size for a tower; others: 'stretch_bicubic'
RESIZE = {'clip': 'letterbox', 'siglip': 'stretch'}


def model(size: str, vision: str) -> ConfigDict:
  """Blocks 21 and 14 of CLIP's 23, or the third and ninth from the end of another tower; 2×2
  pooling without mask.
  """
  llm, vit = LLM[size], TOWERS[vision]
  return ConfigDict(dict(
    vit=vit,
    connector=dict(vit_layers=(-2, -9) if vision == 'clip' else (-3, -9), pooling='attention_meanq',
                   pooling_mask=False, projector='mlp', heads=vit['heads'], kv_heads=vit['heads'],
                   head_dim=vit['head_dim'], width=vit['width'], pool_slots=4, hidden=llm['mlp'],
                   padding_embed='pad_and_partial_pad'),
    llm=dict(llm, head_dim=128, extra_vocab=128, tied=False),
    bidirectional='none', attention='auto', blind=False, dtype='bfloat16', remat='full'))


def get_config(arguments: str = 'size=7b_d') -> ConfigDict:
  """The configuration for options such as size=7b_d,stage=captioner,vision=clip,data=FOLDER."""
  given = options(arguments, size='7b_d', stage='captioner', vision='clip', data='')
  size, stage, vision, folder = given.values()
  if size not in LLM or stage not in STAGES or vision not in TOWERS:
    raise ValueError(f'unknown options in {arguments!r}; this configuration has: '
      f'size={"|".join(LLM)}, stage={"|".join(STAGES)}, vision={"|".join(TOWERS)}, data=FOLDER')
  s = STAGES[stage]
  c = ConfigDict()
  c.name = f'molmo_v1_{size}_{stage}' + ('' if vision == 'clip' else f'_{vision}')
  c.seed = 6198
  c.model = model(size, vision)
  c.model.llm.update(s['dropout'])
  c.preprocess = ConfigDict(dataclasses.asdict(MOLMO_V1))
  c.preprocess.image.update(crop_size=c.model.vit.image_size, patch_mask=True, max_crops_eval=12,
                            resize=RESIZE.get(vision, 'stretch_bicubic'))
  c.preprocess.text.update(s['text'])
  c.data = ConfigDict(dict(
    train='data/train.jsonl', validation='data/val.jsonl', tokenizer='data/tokenizer.json',
    batch_size=s['rows'], sequence_length=2304, crops=13, workers=2, seed=s['seed'],
    visual_tokens=1932 if vision == 'siglip' else 1344, prompts=s['prompts']))
  if folder:
    c.data.update(recipe(f'v1_{stage}', folder, present_only=True))
  c.optimizer = molmo2.optimizer(**s['recipe'])
  c.training = ConfigDict(dict(steps=s['steps'], log_every=20, checkpoint_every=4000))
  c.evaluation = ConfigDict(dict(batch_size=8, generation=dict(max_new_tokens=256)))
  c.mesh = ConfigDict(dict(data=1, fsdp=-1, context=1, tensor=1))
  return complete(c)
