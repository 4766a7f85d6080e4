"""The renderer as loops over rays and samples, in NumPy; slow, and close to the papers."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from goembed_core.trees import select_items
from goembed_nerf_renderer.fields import ProposedField


def render(model, field, params):
    """`O = Σ_i T_i (1 − exp(−σ_i δ_i)) c_i + T_end background`, one ray at a time."""
    config, pixels = model.config, params.pixels.numpy()
    batch, views, *shape = pixels.shape[:-1]
    background = model.background.detach().numpy()
    colours = np.zeros((batch, views, 3, *shape))
    for b in range(batch):
        one = select_items(field, slice(b, b + 1))
        for v in range(views):
            pose = params.camera.camera_to_world[b, v].numpy()
            k_inverse = np.linalg.inv(params.camera.intrinsics[b, v].numpy())
            for index in np.ndindex(*shape):
                direction = pose[:3, :3] @ k_inverse @ np.array([*pixels[(b, v, *index)], 1.0])
                direction /= np.linalg.norm(direction)
                colours[(b, v, slice(None), *index)] = ray(config, one, pose[:3, 3], direction, background)
    return torch.from_numpy(colours)


def ray(config, field, origin, direction, background):
    """The colour of one ray."""
    near, far = bounds(config, origin, direction)
    counts = [*config.proposal_samples, config.samples]
    edges = np.linspace(0, 1, counts[0] + 1)
    field, proposals = field if isinstance(field, ProposedField) else (field, [field] * len(counts))
    for proposal, count in zip(proposals, counts[1:], strict=False):
        _, weights, _ = march(config, proposal, origin, direction, edges, near, far)
        edges = resample(edges, weights, count, config.padding, config.sharpness)
    colours, weights, transmittance = march(config, field, origin, direction, edges, near, far)
    return weights @ colours + transmittance * background


def bounds(config, origin, direction):
    """Near and far, within the box."""
    near, far = config.near, config.far
    if config.box is not None:
        for axis in range(3):
            crossings = [(face[axis] - origin[axis]) / direction[axis] for face in (config.box.low, config.box.high)]
            near, far = max(near, min(crossings)), min(far, max(crossings))
    return (near, far) if near < far else (config.near, config.near)


def distance(config, s, near, far):
    if config.spacing == "linear":
        return near + s * (far - near)
    return 1 / ((1 - s) / near + s / far)


def march(config, field, origin, direction, edges, near, far):
    """Colours and weights of the samples, and what comes through all of them."""
    transmittance, colours, weights = 1.0, [], []
    for low, high in itertools.pairwise(edges):
        point = origin + distance(config, 0.5 * (low + high), near, far) * direction
        sample = field(torch.from_numpy(point)[None, None], torch.from_numpy(direction)[None, None])
        length = distance(config, high, near, far) - distance(config, low, near, far)
        passes = np.exp(-float(sample.density[0, 0]) * length)
        colours.append(np.zeros(3) if sample.colour is None else sample.colour[0, 0].numpy())
        weights.append(transmittance * (1 - passes))
        transmittance *= passes
    return np.array(colours), np.array(weights), transmittance


def resample(edges, weights, count, padding, sharpness):
    """Edges with equal shares of a power of the weights, each of which was spread to its neighbours."""
    outer = np.array([weights[0], *weights, weights[-1]])
    spread = [0.5 * (max(outer[i : i + 2]) + max(outer[i + 1 : i + 3])) for i in range(len(weights))]
    lengths = np.diff(edges)
    spread = [(weight / length) ** sharpness * length for weight, length in zip(spread, lengths, strict=True)]
    share = np.array(spread) / sum(spread) if sum(spread) > 1e-6 else lengths
    cdf = np.array([0, *np.cumsum((share + padding * lengths) / (1 + padding))])
    return np.interp(np.linspace(0, 1, count + 1), cdf, edges)
