"""Which token lands where."""

import pytest
import torch
from goembed_dit.heads import HEADS

PLANES = {"head": "planes", "num_planes": 3, "plane_channels": 2, "plane_resolution": 16}
HEAD_CHANGES = {
    "pixels": {"head": "pixels", "out_channels": 2},
    "vector": {"head": "vector", "vector_dim": 5},
    "planes": PLANES,
}


@pytest.fixture
def outputs(tiny_config, shake):
    """A head's output, and the vector that each token became before it was laid out."""

    def run(name):
        head = shake(HEADS[name](tiny_config(**HEAD_CHANGES[name])))
        seen = []
        head.linear.register_forward_hook(lambda _, __, output: seen.append(output))
        generator = torch.Generator().manual_seed(0)
        out = head(torch.randn(2, 8, 16, generator=generator), torch.randn(2, 16, generator=generator))
        return out.detach(), seen[0].detach()

    return run


def test_pixels_lie_in_their_patch(outputs):
    image, tokens = outputs("pixels")
    assert image.shape == (2, 2, 8, 16)
    for b, c, y, x in ((0, 0, 0, 0), (1, 1, 7, 15), (0, 1, 2, 9), (1, 0, 5, 3)):
        token, inside = (y // 4) * 4 + x // 4, (y % 4) * 4 + x % 4
        assert image[b, c, y, x] == tokens[b, token, inside * 2 + c]


def test_planes_lie_over_the_token_grid(outputs):
    planes, tokens = outputs("planes")  # 2 x 4 tokens: each makes 8 x 4 texels
    assert planes.shape == (2, 3, 2, 16, 16)
    for b, p, c, y, x in ((0, 0, 0, 0, 0), (1, 2, 1, 15, 15), (0, 1, 0, 9, 6), (1, 0, 1, 3, 14)):
        token, inside = (y // 8) * 4 + x // 4, (y % 8) * 4 + x % 4
        assert planes[b, p, c, y, x] == tokens[b, token, inside * 6 + p * 2 + c]


def test_vector_depends_on_every_token(tiny_config, shake):
    head = shake(HEADS["vector"](tiny_config(**HEAD_CHANGES["vector"])))
    tokens = torch.randn(2, 8, 16, requires_grad=True)
    vector = head(tokens, torch.randn(2, 16))
    assert vector.shape == (2, 5)
    (gradient,) = torch.autograd.grad(vector.square().sum(), tokens)
    assert (gradient.abs().amax(dim=-1) > 0).all()


def test_vector_tells_where_a_token_lies(tiny_config, shake):
    head = shake(HEADS["vector"](tiny_config(**HEAD_CHANGES["vector"])))
    tokens, condition = torch.randn(2, 8, 16), torch.randn(2, 16)
    assert not torch.allclose(head(tokens.flip(1), condition), head(tokens, condition), atol=1e-3)


def test_vector_of_many_tokens_stays_small(tiny_config):
    changes = {"height": 128, "width": 128, "patch_size": 4, "head": "vector", "vector_dim": 5, "out_channels": None}
    head = HEADS["vector"](tiny_config(**changes))
    assert head.linear.in_features == 4096  # 1024 tokens of 4 numbers
    assert head(torch.randn(2, 1024, 16), torch.randn(2, 16)).shape == (2, 5)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_starts_small_when_asked(tiny_config, name):
    torch.manual_seed(0)
    head = HEADS[name](tiny_config(**HEAD_CHANGES[name], head_std=0.02))
    assert head.linear.weight.std().item() == pytest.approx(0.02, rel=0.15) and not head.linear.bias.any()


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_zero_until_trained(tiny_config, name):
    head = HEADS[name](tiny_config(**HEAD_CHANGES[name]))
    assert not head(torch.randn(2, 8, 16), torch.randn(2, 16)).any()
