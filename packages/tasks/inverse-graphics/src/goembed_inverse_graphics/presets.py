"""The presets; free of torch."""

from __future__ import annotations

from typing import Any

BOX = {"low": (-0.9, -0.9, -0.65), "high": (0.9, 0.9, 0.65)}  # what one box of `boxes` can reach
UPRIGHT = {"frame": "upright", "surfaces": 4}
UNIT = {"low": (-1.0, -1.0, -1.0), "high": (1.0, 1.0, 1.0)}


def _encoders(
    size: int, patch: int, hidden: int, heads: int, depth: int, features: int, shown: int, upright: bool = True
) -> dict[str, Any]:
    """The encoders of context and target."""
    network = {"height": size, "width": size, "patch_size": patch, "hidden_size": hidden, "num_heads": heads,
               "depth": depth, "out_channels": features, "head_std": 0.02}  # fmt: skip
    return {
        "context": {"network": {"in_channels": 3, **network}, "upright": upright},
        "target": {"network": {"in_channels": 3 + shown, **network}, "upright": upright},
    }


def _objects(path: str) -> dict[str, Any]:
    """Rendered objects in OmniObject3D's layout, at 64 pixels."""
    return {
        "train": {"images": 400_000, "batch_size": 32, "ema_halflife_nimg": 10_000, "checkpoint_every_nimg": 40_000,
                  "log_every_nimg": 2_000, "preview_every_nimg": 20_000, "mixed_precision": "bf16-if-native"},
        "optimizer": {"lr": 1e-3, "betas": [0.9, 0.99], "warmup_nimg": 5_000, "decay": "cosine", "muon_lr": 0.02},
        "dataset": {"name": "omniobject3d", "path": path, "size": 64, "views": 3, "draws": 64, "split": "train"},
        "views": {"first_is_context": False, "score_context": True},
        "forward_model": {"near": 2.0, "far": 6.0, "box": UNIT, "background": "white", "view_dependent": False,
                          "proposal_samples": [24], "samples": 24, "min_transmittance": 0.003},
        "denoiser": {**_encoders(64, 4, 384, 6, 8, 128, 5),
                     "field": {"width": 128, "view_blocks": 2, "blocks": 2, **UPRIGHT},
                     "renderer": {"proposal_samples": [], "samples": 24}},
        "score": {"patch_px": 32, "estimate_every": 2, "lpips": 0.2, "distortion": 0.01},
        "context_dropout": 0.1,
        "schedule": {"timestep_shift": 2.0},
        "evaluate": {"lpips": True, "features": {"name": "efficientnet-lite0"}, "samples": 8, "frequency_samples": 0},
    }  # fmt: skip


def _small_objects(path: str) -> dict[str, Any]:
    """The same objects at 32 pixels, for two cores."""
    large = _objects(path)
    return {
        **large,
        "train": {"images": 36_000, "batch_size": 16, "ema_halflife_nimg": 2_000, "checkpoint_every_nimg": 9_000,
                  "log_every_nimg": 480, "preview_every_nimg": 9_000, "mixed_precision": "bf16-if-native"},
        "optimizer": {**large["optimizer"], "lr": 2e-3, "warmup_nimg": 1_600},
        "dataset": {**large["dataset"], "size": 32},
        "forward_model": {**large["forward_model"], "proposal_samples": [12], "samples": 12},
        "dfm_every": 4,
        "denoiser": {**_encoders(32, 4, 128, 4, 3, 32, 5), "field": {"width": 64, **UPRIGHT},
                     "estimate": {"corrected": True}, "renderer": {"proposal_samples": [], "samples": 12}},
        "score": {"rays": 48, "estimate_every": 1, "estimate": 0.0, "novel": 4.0},
        "context_dropout": 0.0,
        "evaluate": {**large["evaluate"], "contexts": 200, "samples": 2, "scenes": 1, "batch_size": 16},
    }  # fmt: skip


def _published(dataset: dict[str, Any], near_far: tuple[float, float], score: dict[str, Any]) -> dict[str, Any]:
    """DFM supplement 2.1: DiT-XL/2 on the half resolution, 512 features, 64 + 64 samples, Adam 2e-5, DDIM-50."""
    near, far = near_far
    encoders = _encoders(64, 4, 1152, 16, 28, 512, 5 + 64, upright=False)
    for part in encoders.values():
        part["network"]["checkpoint_blocks"] = True
        part["kernel_px"] = 7
    return {
        "train": {"images": 20_000_000, "batch_size": 24, "ema_halflife_nimg": 33_000, "clip_norm": 1.0,
                  "checkpoint_every_nimg": 48_000, "preview_every_nimg": 48_000, "log_every_nimg": 2_400},
        "optimizer": {"lr": 2e-5, "betas": [0.9, 0.99], "warmup_nimg": 24_000, "decay": "constant", "muon_lr": None},
        "dataset": {"size": 64, **dataset},
        "views": {"first_is_context": False},
        "forward_model": {"near": near, "far": far, "background": "black", "view_dependent": False,
                          "proposal_samples": [64], "samples": 64, "chunk_points": 2**20},
        "denoiser": {**encoders, "estimate": {"downscale": 1, "features": 64, "detach": False},
                     "field": {"width": 512, "view_blocks": 3, "blocks": 2, "frequencies": 6, "middle": 0.0,
                               "density_scale": 1.0, "density_bias": 0.0, "time_size": 2048, "code_cells": 0},
                     "renderer": {"proposal_samples": [], "samples": 32, "chunk_points": 2**20}},
        "score": {"patch_px": 24, "estimate_every": 1, "lpips_net": "vgg", **score},
        "sampler": {"name": "ddim", "num_steps": 50, "threshold": 0.95},
        "evaluate": {"features": {"name": "inception"}, "lpips": True, "samples": 2, "scenes": 1,
                     "frequency_samples": 0},
    }  # fmt: skip


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "train": {"images": 60_000, "batch_size": 16, "ema_halflife_nimg": 1_500, "checkpoint_every_nimg": 12_000,
                  "log_every_nimg": 960, "preview_every_nimg": 12_000, "mixed_precision": "bf16-if-native"},
        "dfm_every": 2,
        "dataset": {"jitter_rad": 3.1},
        "forward_model": {"box": BOX, "proposal_samples": [8], "samples": 8},
        "denoiser": {**_encoders(32, 4, 96, 3, 3, 32, 5), "field": {"width": 64, **UPRIGHT},
                     "estimate": {"corrected": True}, "renderer": {"proposal_samples": [], "samples": 10}},
        "views": {"score_context": True},
        "score": {"rays": 24, "estimate_every": 1, "estimate": 0.0, "novel": 4.0},
        "evaluate": {"batch_size": 8, "frequency_samples": 32},
        "schedule": {"timestep_shift": 2.0},
    },
    "furniture": _objects("furniture64"),
    "furniture32": _small_objects("furniture64"),
    "aircraft": _objects("aircraft64"),
    "co3d": _published(
        {"name": "co3d", "path": "co3d/hydrant", "views": 5, "window": 40, "draws": 1000, "sequences": 500,
         "background": "black"},
        (0.5, 40.0), {"lpips": 0.2},
    ) | {"views": {"first_is_context": False, "most_context": 3}},
    "realestate10k": _published(
        {"name": "realestate10k", "path": "realestate10k", "frames": "realestate10k/frames", "views": 3, "window": 180,
         "draws": 10, "on_missing": "skip", "background": "black"},
        (0.7, 10.0), {"lpips": 1.0, "distortion": 0.005, "smoothness": 0.002},
    ) | {"context_dropout": 0.1, "sampler": {"name": "ddim", "num_steps": 50, "threshold": 0.95, "guidance_scale": 2.0,
                                             "temperature": 0.85}},
}  # fmt: skip
