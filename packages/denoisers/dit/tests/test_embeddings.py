"""Positions and timesteps against their definitions, number by number."""

import math

import pytest
import torch
from goembed_dit.embeddings import PatchEmbedding, TimeEmbedding, position_embedding, timestep_waves


@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (4, 4)])
def test_position_embedding_is_its_definition(rows, columns):
    dim = 16
    embedding = position_embedding(rows, columns, dim)
    assert embedding.shape == (rows * columns, dim)
    for y in range(rows):
        for x in range(columns):
            expected = []
            for coordinate in (x, y):
                angles = [coordinate / 10_000 ** (4 * k / dim) for k in range(dim // 4)]
                expected += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
            torch.testing.assert_close(embedding[y * columns + x], torch.tensor(expected))


def test_timestep_waves_are_their_definition():
    timestep = torch.tensor([0, 1, 999])
    waves = timestep_waves(timestep, 8, torch.float64)
    for row, t in zip(waves.tolist(), timestep.tolist(), strict=True):
        angles = [t / 10_000 ** (2 * k / 8) for k in range(4)]
        assert row == pytest.approx([math.cos(a) for a in angles] + [math.sin(a) for a in angles], abs=1e-9)


def test_whole_timesteps_may_be_integers_or_floats():
    embedding = TimeEmbedding(16, 8)
    torch.testing.assert_close(embedding(torch.tensor([3, 500])), embedding(torch.tensor([3.0, 500.0])))
    assert not torch.equal(embedding(torch.tensor([3.0])), embedding(torch.tensor([3.5])))


def test_neighbouring_timesteps_differ_in_half_width():
    embedding = TimeEmbedding(256, 32).bfloat16()
    late = timestep_waves(torch.tensor([998, 999]), 256, torch.float32)
    assert (late[0] - late[1]).abs().max() > 0.5
    assert not torch.equal(*embedding(torch.tensor([998, 999])))


def test_patches_are_a_convolution_with_stride():
    patches = PatchEmbedding(3, 4, 10)
    image = torch.randn(2, 3, 8, 12)
    kernel = patches.linear.weight.reshape(10, 3, 4, 4)
    expected = torch.nn.functional.conv2d(image, kernel, patches.linear.bias, stride=4)
    torch.testing.assert_close(patches(image), expected.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)
