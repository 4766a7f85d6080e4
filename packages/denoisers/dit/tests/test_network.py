"""The network as a function: gradients, widths of number, batches, compilation, and what it refuses."""

import pytest
import torch
from goembed_core.errors import UserError
from goembed_dit.block import attend
from goembed_dit.config import DiTConfig
from goembed_dit.network import DiT

HEADS = {
    "pixels": {"head": "pixels", "out_channels": 2},
    "vector": {"head": "vector", "vector_dim": 5},
    "planes": {"head": "planes", "num_planes": 3, "plane_channels": 2, "plane_resolution": 8},
}
SHAPES = {"pixels": (4, 2, 8, 16), "vector": (4, 5), "planes": (4, 3, 2, 8, 8)}


@pytest.fixture
def image():
    return torch.randn(4, 3, 8, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def timestep():
    return torch.tensor([0, 10, 500, 999])


@pytest.mark.parametrize("head", HEADS)
def test_output_is_zero_until_trained(tiny_config, image, timestep, head):
    output = DiT(tiny_config(**HEADS[head]))(image, timestep)
    assert output.shape == SHAPES[head]
    assert not output.any()


@pytest.mark.parametrize("head", HEADS)
def test_every_weight_has_a_gradient(tiny, image, timestep, head):
    network = tiny(**HEADS[head], condition_dim=3)
    network(image, timestep, torch.randn(4, 3)).square().sum().backward()
    without = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


def test_blocks_start_as_the_identity(tiny_config):
    network = DiT(tiny_config())
    tokens = torch.randn(2, 8, 16)
    assert torch.equal(network.blocks[0](tokens, torch.randn(2, 16)), tokens)


def test_gradients_are_those_of_differences(tiny):
    network = tiny(height=4, width=8, hidden_size=8, depth=1, in_channels=1, condition_dim=2, frequency_dim=4).double()
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 1, 4, 8), torch.tensor([3.0, 70.0]), torch.randn(2, 2, generator=generator)]
    inputs = [value.double().requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(network, inputs, fast_mode=True)


def test_an_item_does_not_depend_on_its_batch(tiny, image, timestep):
    network = tiny()
    alone = torch.cat([network(image[i : i + 1], timestep[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(network(image, timestep), alone, atol=1e-5, rtol=1e-5)


def test_the_timestep_the_condition_and_the_positions_matter(tiny, image, timestep):
    network = tiny(condition_dim=3)
    condition = torch.randn(4, 3)
    output = network(image, timestep, condition)
    assert not torch.allclose(output, network(image, timestep + 1, condition), atol=1e-3)
    assert not torch.allclose(output, network(image, timestep, condition + 1), atol=1e-3)
    assert not torch.allclose(output.roll(4, dims=-1), network(image.roll(4, dims=-1), timestep, condition), atol=1e-3)


def test_autocast_agrees_with_float32(tiny, image, timestep):
    network = tiny()
    expected = network(image, timestep)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(image, timestep)
    assert output.dtype == torch.bfloat16
    assert (output - expected).norm() < 0.03 * expected.norm()
    (exact,) = torch.autograd.grad(expected.square().sum(), network.blocks[0].qkv.weight)
    (rounded,) = torch.autograd.grad(output.float().square().sum(), network.blocks[0].qkv.weight)
    assert (rounded - exact).norm() < 0.06 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_may_be_of_another_width(tiny, image, timestep, dtype):
    network = tiny()
    expected = network(image, timestep)
    output = network.to(dtype)(image.to(dtype), timestep)
    assert output.dtype == dtype
    assert (output - expected).norm() < (0.06 if dtype == torch.bfloat16 else 1e-5) * expected.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_attention_is_its_definition(dtype):
    query, key, value = (torch.randn(3, 2, 5, 4, dtype=torch.float64).to(dtype) for _ in range(3))
    q, k, v = query.double(), key.double(), value.double()
    expected = torch.softmax(q @ k.transpose(-1, -2) / 2, dim=-1) @ v
    attended = attend(query, key, value)
    assert attended.dtype == dtype
    tolerance = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(attended.double(), expected, atol=tolerance, rtol=tolerance)


def test_compiles_without_a_graph_break(request, tiny, image, timestep):
    if request.config.getoption("--jaxtyping-packages", default=None):
        pytest.skip("shape checks are on, and torch.compile cannot trace them")
    network = tiny()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(image, timestep), network(image, timestep))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(compiled(image, timestep), network(image, timestep))


def test_recomputing_blocks_changes_nothing(tiny, image, timestep):
    def gradients(network):
        network(image, timestep).square().sum().backward()
        return [weight.grad for weight in network.parameters()]

    for plain, recomputed in zip(gradients(tiny()), gradients(tiny(checkpoint_blocks=True)), strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_positions_are_not_saved_with_the_weights(tiny_config):
    assert "positions" not in DiT(tiny_config()).state_dict()


@pytest.mark.parametrize(("size", "millions"), [("S", 33), ("B", 130), ("L", 458), ("XL", 675)])
def test_sizes_are_the_published_ones(size, millions):
    config = DiTConfig(
        in_channels=4, height=32, width=32, patch_size=2, size=size, condition_dim=1001, head="pixels", out_channels=8
    )
    with torch.device("meta"):
        network = DiT(config)
    assert round(sum(weight.numel() for weight in network.parameters()) / 1e6) == millions


@pytest.mark.parametrize(
    ("shape", "timestep_shape", "condition_dim", "condition_shape", "message"),
    [
        ((4, 2, 8, 16), (4,), 0, None, r"input of shape \(4, 2, 8, 16\), but is configured for \(batch, in_channels=3"),
        ((4, 3, 16, 8), (4,), 0, None, r"height=8, width=16\): change one or the other"),
        ((3, 8, 16), (4,), 0, None, r"input of shape \(3, 8, 16\)"),
        ((4, 3, 8, 16), (), 0, None, r"timestep has shape \(\), expected \(4,\): one timestep per item"),
        (
            (4, 3, 8, 16),
            (4,),
            0,
            (4, 2),
            r"condition of shape \(4, 2\) was given, but condition_dim=0: set condition_dim",
        ),
        ((4, 3, 8, 16), (4,), 2, None, r"condition_dim=2 expects a condition of shape \(4, 2\), but none was given"),
        ((4, 3, 8, 16), (4,), 2, (4, 3), r"shape \(4, 2\), but one of shape \(4, 3\) was given"),
    ],
)
def test_errors_say_what_was_expected(tiny, shape, timestep_shape, condition_dim, condition_shape, message):
    network = tiny(condition_dim=condition_dim)
    condition = None if condition_shape is None else torch.zeros(condition_shape)
    with pytest.raises(UserError, match=message):
        network.check(torch.zeros(shape), torch.zeros(timestep_shape), condition)


def test_a_forward_pass_checks_first(tiny):
    with pytest.raises(UserError, match="configured for"):
        tiny()(torch.zeros(4, 2, 8, 16), torch.zeros(4))
