"""Released weights: into the same network, against diffusers' reading of them, and into networks that differ."""

import pytest
import torch
from goembed_core.errors import UserError
from goembed_dit.config import DiTConfig
from goembed_dit.network import DiT
from goembed_dit.pretrained import load_released
from safetensors.torch import save_file

HIDDEN, DEPTH, NUM_HEADS, PATCH, NUM_LABELS = 32, 2, 4, 2, 11  # the last label stands for none
GIVEN = {
    "in_channels": 4,
    "height": 8,
    "width": 8,
    "patch_size": PATCH,
    "hidden_size": HIDDEN,
    "depth": DEPTH,
    "num_heads": NUM_HEADS,
    "out_channels": 8,  # noise and variance of four channels
}


@pytest.fixture
def released():
    """Random weights in the layout of the released ones."""
    shapes = {"x_embedder.proj": (HIDDEN, 4, PATCH, PATCH), "t_embedder.mlp.0": (HIDDEN, 256)}
    shapes["t_embedder.mlp.2"] = (HIDDEN, HIDDEN)
    for i in range(DEPTH):
        shapes[f"blocks.{i}.attn.qkv"] = (3 * HIDDEN, HIDDEN)
        shapes[f"blocks.{i}.attn.proj"] = (HIDDEN, HIDDEN)
        shapes[f"blocks.{i}.mlp.fc1"] = (4 * HIDDEN, HIDDEN)
        shapes[f"blocks.{i}.mlp.fc2"] = (HIDDEN, 4 * HIDDEN)
        shapes[f"blocks.{i}.adaLN_modulation.1"] = (6 * HIDDEN, HIDDEN)
    shapes["final_layer.linear"] = (PATCH * PATCH * 8, HIDDEN)
    shapes["final_layer.adaLN_modulation.1"] = (2 * HIDDEN, HIDDEN)
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = 0.15 * torch.randn(shape, generator=generator)
        state[f"{name}.bias"] = 0.15 * torch.randn(shape[0], generator=generator)
    state["y_embedder.embedding_table.weight"] = torch.randn(NUM_LABELS, HIDDEN, generator=generator)
    state["pos_embed"] = torch.randn(1, 16, HIDDEN, generator=generator)  # recomputed, so never looked at
    return state


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 4, 8, 8, generator=generator), torch.tensor([0, 17, 999])


def to_diffusers(released):
    """The same weights under diffusers' names; every one of its blocks has the time and label embedding again."""
    state = {
        "pos_embed.proj": "x_embedder.proj",
        "proj_out_1": "final_layer.adaLN_modulation.1",
        "proj_out_2": "final_layer.linear",
    }
    for i in range(DEPTH):
        block = f"transformer_blocks.{i}."
        state[block + "norm1.emb.timestep_embedder.linear_1"] = "t_embedder.mlp.0"
        state[block + "norm1.emb.timestep_embedder.linear_2"] = "t_embedder.mlp.2"
        state[block + "norm1.linear"] = f"blocks.{i}.adaLN_modulation.1"
        state[block + "attn1.to_out.0"] = f"blocks.{i}.attn.proj"
        state[block + "ff.net.0.proj"] = f"blocks.{i}.mlp.fc1"
        state[block + "ff.net.2"] = f"blocks.{i}.mlp.fc2"
    state = {f"{new}.{kind}": released[f"{old}.{kind}"] for new, old in state.items() for kind in ("weight", "bias")}
    for i in range(DEPTH):
        block = f"transformer_blocks.{i}."
        table = released["y_embedder.embedding_table.weight"]
        state[block + "norm1.emb.class_embedder.embedding_table.weight"] = table
        for kind in ("weight", "bias"):
            parts = released[f"blocks.{i}.attn.qkv.{kind}"].chunk(3)
            for name, part in zip(("to_q", "to_k", "to_v"), parts, strict=True):
                state[f"{block}attn1.{name}.{kind}"] = part
    return state


def test_equals_diffusers_on_the_same_weights(released, inputs):
    from diffusers import DiTTransformer2DModel

    theirs = DiTTransformer2DModel(
        num_attention_heads=NUM_HEADS,
        attention_head_dim=HIDDEN // NUM_HEADS,
        in_channels=4,
        out_channels=8,
        num_layers=DEPTH,
        sample_size=8,
        patch_size=PATCH,
        num_embeds_ada_norm=NUM_LABELS - 1,
        norm_eps=1e-6,
    ).eval()
    missing, unexpected = theirs.load_state_dict(to_diffusers(released), strict=False)
    assert (missing, unexpected) == (["pos_embed.pos_embed"], []) or (missing, unexpected) == ([], [])
    for block in theirs.transformer_blocks:  # diffusers' frequencies end at 1/10000, the released network's before
        block.norm1.emb.time_proj.downscale_freq_shift = 0

    ours = DiT(DiTConfig(**GIVEN, condition_dim=NUM_LABELS))
    load_released(ours, released)
    image, timestep = inputs
    labels = torch.tensor([2, 0, 10])
    with torch.no_grad():
        expected = theirs(image, timestep, class_labels=labels).sample
        output = ours(image, timestep, torch.nn.functional.one_hot(labels, NUM_LABELS).float())
    assert expected.std() > 0.3
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


def test_a_network_without_labels_is_the_one_of_the_label_for_none(released, inputs):
    labelled, plain = DiT(DiTConfig(**GIVEN, condition_dim=NUM_LABELS)), DiT(DiTConfig(**GIVEN))
    load_released(labelled, released)
    report = load_released(plain, released)
    assert report.kept == {} and report.unused == ()
    none = torch.zeros(3, NUM_LABELS)
    none[:, -1] = 1
    torch.testing.assert_close(plain(*inputs), labelled(*inputs, none))


def test_every_weight_is_copied(released):
    network = DiT(DiTConfig(**GIVEN, condition_dim=NUM_LABELS))
    report = load_released(network, released)
    assert set(report.loaded) == set(network.state_dict())
    assert (report.kept, report.unused) == ({}, ())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_reads_files(released, inputs, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save(released, path)
    else:
        save_file(released, path)
    from_file, from_state = DiT(DiTConfig(**GIVEN)), DiT(DiTConfig(**GIVEN))
    load_released(from_file, path)
    load_released(from_state, released)
    assert torch.equal(from_file(*inputs), from_state(*inputs))


def test_the_input_may_have_another_size(released):
    network = DiT(DiTConfig(**(GIVEN | {"height": 4, "width": 12})))
    assert load_released(network, released).kept == {}


def test_what_does_not_fit_is_refused_by_name(released):
    network = DiT(DiTConfig(**(GIVEN | {"in_channels": 7, "depth": 1})))
    with pytest.raises(UserError) as error:
        load_released(network, released)
    text = str(error.value)
    assert "patch_embedding.linear.weight has shape (32, 28), but (32, 16) in the file" in text
    assert "blocks.1.qkv.weight is not in the network" in text
    assert "strict=False" in text


def test_what_is_left_over_in_the_file_is_refused_by_name(released):
    with pytest.raises(UserError, match=r"do not fit the network: blocks\.1\.\S+ is not in the network"):
        load_released(DiT(DiTConfig(**(GIVEN | {"depth": 1}))), released)


def test_what_does_not_fit_is_kept_and_reported(released, inputs):
    changes = {"head": "vector", "vector_dim": 5, "out_channels": None, "depth": 3, "condition_dim": 2}
    network = DiT(DiTConfig(**(GIVEN | changes)))
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    report = load_released(network, released, strict=False)
    after = network.state_dict()
    kept = {"head.linear.weight", "head.linear.bias", "condition_embedding.weight", "condition_embedding.bias"}
    assert set(report.kept) == kept | {name for name in after if name.startswith("blocks.2.")}
    assert report.kept["condition_embedding.bias"] == "is not in the file"
    assert report.kept["head.linear.bias"] == "has shape (5,), but (32,) in the file"
    assert set(report.loaded) | set(report.kept) == set(after)
    for name, weight in after.items():
        assert torch.equal(weight, before[name]) == (name in report.kept), name


def test_a_network_that_shares_nothing_is_refused(released):
    network = DiT(DiTConfig(**GIVEN))
    with pytest.raises(UserError, match=r"no released weight fits the network: expected names like 'blocks.0.attn.qkv"):
        load_released(network, {"other.weight": torch.zeros(3)}, strict=False)


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"has the suffix '\.ckpt': expected \.safetensors or \.pt"):
        load_released(DiT(DiTConfig(**GIVEN)), tmp_path / "weights.ckpt")


def test_nothing_in_a_file_is_executed(tmp_path):
    import fractions

    path = tmp_path / "weights.pt"
    torch.save({"x": fractions.Fraction(1, 2)}, path)
    with pytest.raises(Exception, match="Weights only load failed"):
        load_released(DiT(DiTConfig(**GIVEN)), path)
