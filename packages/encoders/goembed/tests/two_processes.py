"""One of two processes that measure a scale together: RANK STORE FILE."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import torch
from torch import distributed

if __name__ == "__main__":
    worlds = runpy.run_path(str(Path(__file__).with_name("worlds.py")))
    from goembed_core.trees import select_items
    from goembed_encoder.config import EncodingConfig
    from goembed_encoder.encoder import GOEmbed
    from safetensors.torch import save_file

    rank, store, file = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    model = worlds["Network"]()
    seen = worlds["observed"](model, 6, dtype=torch.float32)
    encoder = GOEmbed(model, EncodingConfig(steps=2))
    encoder(select_items(seen, slice(0, 2) if rank == 0 else slice(2, 6)))
    save_file({"rms": encoder.scale.rms}, file)
    distributed.barrier()
    distributed.destroy_process_group()
