"""Molmo2 on images: one global view and up to K = 8 overlapping crops in training, 24 at inference.

  python train.py --config=configs/image.py:size=8b,stage=pretrain,data=manifests \
    --config.init_llm=Qwen/Qwen3-8B \
    --config.init_vit=google/siglip2-so400m-patch14-384 --config.data.validation=mine/val.jsonl \
    --config.data.tokenizer=qwen3/tokenizer.json
  python train.py --config=configs/image.py:size=8b,stage=sft --config.init_from=PRETRAINED \
    --config.data.train=mine/train.jsonl …

size: 4b, 8b (default) or o7b; stage: pretrain (default: captions, pointing, text) or sft (several
images, longer rows);
data: the folder of the stage's manifests (docs/datasets.md), mixed at the released rates.

The released models of these sizes start pretraining from `init_llm` Qwen/Qwen3-4B-Instruct-2507,
Qwen/Qwen3-8B or allenai/Olmo-3-7B-Instruct, whose tokenizer goes with it, and `init_vit`
google/siglip2-so400m-patch14-384: folders or ids on the Hub (docs/checkpoints.md). Without these
flags everything starts from random numbers.
"""

from ml_collections import ConfigDict

from configs import stages


def get_config(arguments: str = '') -> ConfigDict:
  """The configuration for options such as size=8b,stage=sft,data=FOLDER."""
  return stages.config('image', arguments, ('pretrain', 'sft'))
