"""Every format gives the cube that was written: its colours, silhouette, depth and normals, as rays find them."""

import numpy as np
import pytest
from goembed_core.errors import UserError
from goembed_multiview_datasets.config import RenderMeshesConfig
from goembed_multiview_datasets.meshes.model import place, require_sound
from goembed_multiview_datasets.meshes.sources import find_meshes, read_mesh
from goembed_multiview_datasets.meshes.views import LIGHT, make_model, render
from goembed_multiview_datasets.render_meshes import draw_cameras

SIZE = 33
K = np.array([[60.0, 0, 16.5], [0, 60.0, 16.5], [0, 0, 1]])


def model_of(folder, number=-1, shading="unlit"):
    entry = find_meshes(folder)[number]
    mesh, up = read_mesh(entry, folder)
    require_sound(mesh, "a mesh")
    return make_model(place(mesh, up, "a mesh")[0], shading)


def cameras(folder, views=4):
    settings = RenderMeshesConfig(folder=folder, out=folder, views=views, views_on="sphere")
    return draw_cameras(find_meshes(folder)[-1], settings)


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        ("ply", 1e-6),
        ("ply, colours of faces", 1e-6),
        ("obj", 0.003),  # trimesh keeps materials in bytes
        ("obj, texture", 1e-6),
        ("glb, materials", 0.02),  # linear values in bytes
        ("glb, texture", 1e-6),
        ("glb, colours of vertices", 0.02),
        ("furniture", 1e-6),
        ("furniture, texture", 0.02),  # JPEG
        ("aircraft", 0.02),
    ],
)
def test_a_cube_is_what_rays_see(cube, folder_of, kind, tolerance):
    folder = folder_of(kind)
    model = model_of(folder)
    for pose in cameras(folder):
        seen = render(model, pose, K, SIZE, 1)
        face, depth = cube.cast(pose, K, SIZE)
        there = face >= 0
        assert 100 < there.sum() < SIZE * SIZE
        assert np.array_equal(seen.rgba[..., 3], there.astype(np.float32))
        assert np.abs(seen.rgba[there, :3] - cube.colours[face[there]]).max() <= tolerance
        exact = 1e-9 if "glb" not in kind and "fur" not in kind and kind != "aircraft" else 3e-5  # float32, 16 bits
        assert np.abs(seen.depth - depth).max() <= exact
        assert np.abs(seen.normal[there] - cube.normals[face[there]]).max() <= 1e-4 and not seen.normal[~there].any()


def test_the_light_is_fixed_in_the_world(cube, folder_of):
    folder = folder_of("ply")
    for pose in cameras(folder):
        seen = render(model_of(folder, shading="soft"), pose, K, SIZE, 1)
        face, _ = cube.cast(pose, K, SIZE)
        expected = cube.colours[face] * (0.55 + 0.45 * np.abs(cube.normals[face] @ LIGHT))[..., None]
        assert np.abs(seen.rgba[..., :3] - expected)[face >= 0].max() < 1e-6


def test_the_nodes_of_a_scene_are_put_where_they_belong(cube, tmp_path):
    cube.glb(tmp_path / "straight" / "a.glb", "materials")
    cube.glb(tmp_path / "turned" / "a.glb", "materials", turn=0.7)
    straight, turned = (model_of(tmp_path / name).mesh.vertices for name in ("straight", "turned"))
    about_z = np.array([[np.cos(0.7), -np.sin(0.7), 0], [np.sin(0.7), np.cos(0.7), 0], [0, 0, 1]])
    assert np.allclose(straight @ about_z.T, turned, atol=1e-6)


@pytest.mark.parametrize(("mode", "alpha"), [(None, 1.0), ("OPAQUE", 1.0), ("BLEND", 0.4)])
def test_opacity_of_glb(cube, tmp_path, mode, alpha):
    """A factor's alpha counts for nothing unless it is to be blended."""
    cube.glb(tmp_path / "a.glb", "materials", alpha_mode=mode, alpha=0.4)
    pose = cameras(tmp_path, 1)[0]
    seen = render(model_of(tmp_path), pose, K, SIZE, 1)
    there = cube.cast(pose, K, SIZE)[0] >= 0
    expected = 1 - (1 - alpha) ** 2  # front and back
    assert np.abs(seen.rgba[there, 3] - expected).max() < 0.005 and not seen.rgba[~there].any()


def test_textures_with_holes(cube, tmp_path):
    picture = np.dstack([cube.atlas(), np.full((96, 16), 255, np.uint8)])
    picture[: 3 * 16, :, 3] = 100  # of the first three faces
    cube.glb(tmp_path / "a.glb", "texture", alpha_mode="MASK", texture=cube.encoded(picture))
    model = model_of(tmp_path)
    for pose in cameras(tmp_path):
        seen, (face, _) = render(model, pose, K, SIZE, 1), cube.cast(pose, K, SIZE)
        assert set(np.unique(seen.rgba[..., 3]).tolist()) <= {0.0, 1.0}
        solid = face >= 3
        assert (seen.rgba[solid, 3] == 1).all()
        assert np.abs(seen.rgba[solid, :3] - cube.colours[face[solid]]).max() < 1e-6


def test_dissolved_materials_of_obj(cube, tmp_path):
    cube.obj(tmp_path / "a.obj", alpha=0.25)
    pose = cameras(tmp_path, 1)[0]
    seen = render(model_of(tmp_path), pose, K, SIZE, 1)
    there = cube.cast(pose, K, SIZE)[0] >= 0
    assert np.allclose(seen.rgba[there, 3], 1 - 0.75**2, atol=1e-6) and not seen.depth.any()


@pytest.mark.parametrize(
    ("name", "make", "error"),
    [
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n"
                  b"end_header\n0 0 0\n", r"a\.ply: has no faces; give a mesh"),
        ("a.ply", b"no ply at all", r"a\.ply: cannot be read \("),
        ("a.glb", b"glTF", r"a\.glb: cannot be read \(error: unpack_from"),
        ("a.glb", b"GLTF" + bytes(40), r"a\.glb: cannot be read \(ValueError: it does not begin with glTF"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 nan\nf 1 2 3\n", r"a mesh: 1 of 1 faces have positions that are not fin"),
        ("a.obj", b"v 2 2 2\nv 2 2 2\nv 2 2 2\nf 1 2 3\n", r"a mesh: all of its faces lie in one point"),
        ("a.obj", b"mtllib gone.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", r"a\.obj: its materials gone\.mtl are not"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\n", r"a\.obj: has no faces"),
    ],
)  # fmt: skip
def test_broken_files(tmp_path, name, make, error):
    (tmp_path / name).write_bytes(make)
    with pytest.raises(UserError, match=error):
        model_of(tmp_path)


def test_textures_that_are_not_there(cube, tmp_path):
    cube.obj(tmp_path / "obj" / "a.obj", texture="paint.png")
    (tmp_path / "obj" / "paint.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"a\.obj: cannot be read \(UnidentifiedImageError"):
        model_of(tmp_path / "obj")
    (tmp_path / "obj" / "paint.png").unlink()
    with pytest.raises(UserError, match=r"a\.obj: its texture paint\.png is not there; put the file beside it"):
        model_of(tmp_path / "obj")
    cube.glb(tmp_path / "glb" / "a.glb", "texture", uri="maps/paint.png")
    with pytest.raises(UserError, match=r"a\.glb: its texture maps/paint\.png is not there"):
        model_of(tmp_path / "glb")
    cube.glb(tmp_path / "bad" / "a.glb", "texture", texture=b"no picture")
    with pytest.raises(UserError, match=r"a\.glb: its textures cannot be read"):
        model_of(tmp_path / "bad")
    cube.furniture(tmp_path / "zip", names=("none", "A"))
    cube.zip(tmp_path / "zip" / "objects_npz.zip", {"A.npz": cube.arrays() | {"face_mat": np.zeros(12, np.uint8)}})
    with pytest.raises(UserError, match=r"living_room/A: is damaged \(KeyError\('mat_rgb'\)\)|mat_"):
        model_of(tmp_path / "zip", 0)
    with pytest.raises(UserError, match=r"living_room/none: \S*objects_npz\.zip has no none\.npz"):
        model_of(tmp_path / "zip", 1)


def test_where_meshes_are_looked_for(cube, tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no such folder; give a folder of GLB, OBJ or PLY files, or one "):
        find_meshes(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no meshes; give a folder of GLB, OBJ or PLY"):
        find_meshes(tmp_path)
    cube.ply(tmp_path / "Arm Chairs" / "red one" / "scan.ply")
    cube.ply(tmp_path / "stool.PLY")
    found = find_meshes(tmp_path)
    assert [entry.folder for entry in found] == ["arm_chairs/red_one_scan", f"{tmp_path.name}/stool"]
    (tmp_path / "index.json").write_text('[{"id": "stool", "category": "Stools", "licence": "CC0"}]')
    assert [(entry.folder, dict(entry.about).get("licence")) for entry in find_meshes(tmp_path)] == [
        ("arm_chairs/red_one_scan", None),
        ("stools/stool", "CC0"),
    ]
    cube.obj(tmp_path / "stool.obj")
    with pytest.raises(UserError, match=r"stool\.PLY and stool\.obj would both be stools/stool|both be stools/stool"):
        find_meshes(tmp_path)
    for text, told in (("{}", "is no list of objects"), ("[", "cannot be read as JSON")):
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(UserError, match=told):
            find_meshes(tmp_path)
    cube.furniture(tmp_path / "zip")
    (tmp_path / "zip" / "index.json").write_text('[{"id": "A_001"}]')
    with pytest.raises(UserError, match=r"index\.json: an entry has no category \({'id': 'A_001'}\)"):
        find_meshes(tmp_path / "zip")
