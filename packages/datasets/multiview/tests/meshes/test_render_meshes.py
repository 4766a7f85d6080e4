"""The command: the layout that it writes, what it takes up again and refuses, and that processes change nothing."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import OpenEXR
import pytest
import torch
from goembed_core.cli import main
from goembed_core.errors import UserError
from goembed_multiview_datasets.config import OmniObjectConfig, RenderMeshesConfig
from goembed_multiview_datasets.meshes.sources import Entry
from goembed_multiview_datasets.objects import omniobject3d
from goembed_multiview_datasets.pictures import read_pixels
from goembed_multiview_datasets.render_meshes import draw_cameras, render_meshes
from goembed_nerf_renderer.cameras import Camera, project, unproject, whole_image
from PIL import Image
from pydantic import ValidationError

SMALL = {"views": 3, "size": 16, "samples": 3}


def settings(folder, out, **given):
    return RenderMeshesConfig(folder=folder, out=out, **(SMALL | given))


def files_of(folder):
    """Every file of a folder, by its place in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read_depth(path):
    with OpenEXR.File(str(path)) as file:
        return file.channels()["RGB"].pixels


def is_there(group):
    """Whether a group of processes has any."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def boxes(cube, tmp_path):
    """Five meshes of three categories, of all formats."""
    folder = tmp_path / "meshes"
    cube.ply(folder / "balls" / "a.ply")
    cube.glb(folder / "balls" / "b.glb", "texture", turn=0.4)
    cube.obj(folder / "chairs" / "c.obj")
    cube.glb(folder / "chairs" / "d.glb", "materials", turn=1.0)
    cube.obj(folder / "doors" / "e.obj", texture="e.png")
    (folder / "LICENSE").write_text("CC0\n")
    (folder / "index.json").write_text(json.dumps([{"id": "c", "name": "Stool", "creator": "Ann", "licence": "CC-BY"}]))
    return folder


def test_the_layout(cube, boxes, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["render-meshes", str(boxes), f"out={out}", "views=3", "size=16", "shading=unlit"]) == 0
    assert capsys.readouterr().out == f"5 objects of 3 views in {out}; look at {out / 'contact.png'}\n"
    render = out / "chairs" / "c" / "render"
    names = {f"images/r_{n}.png" for n in range(3)} | {f"depths/r_{n}_depth.exr" for n in range(3)}
    assert set(files_of(render)) == names | {f"normals/r_{n}_normal.png" for n in range(3)} | {"transforms.json"}
    layout = json.loads((render / "transforms.json").read_text())
    assert (layout["near"], layout["far"]) == (3.0, 5.0) and np.isclose(layout["frames"][0]["scale"], cube.half)
    listing = json.loads((out / "objects.json").read_text())["objects"]
    assert [entry["object"] for entry in listing] == ["a", "b", "c", "d", "e"]
    about = {"id": "c", "name": "Stool", "creator": "Ann", "licence": "CC-BY"}
    assert listing[2] == {"category": "chairs", "object": "c", "from": "chairs/c.obj", "about": about}
    assert (out / "LICENSE").read_text() == "CC0\n"
    with Image.open(out / "contact.png") as sheet:
        assert sheet.size == (3 * 64, 2 * 64)
        assert (
            np.asarray(sheet.crop((0, 0, 64, 64))).min() < 128
            and np.asarray(sheet.crop((128, 64, 192, 128))).min() == 255
        )

    scene = omniobject3d(OmniObjectConfig(path=out / "chairs", background="black"))[0]
    assert scene.near_far.tolist() == [[3.0, 5.0]] * 3
    for view in range(3):
        pose = scene.camera.camera_to_world[view].double().numpy()
        face, depth = cube.cast(pose, scene.camera.intrinsics[view].double().numpy(), 16)
        stored = read_depth(render / "depths" / f"r_{view}_depth.exr")
        assert stored.dtype == np.float32 and stored.shape == (16, 16, 3) and (np.ptp(stored, -1) == 0).all()
        whole = scene.alpha[view, 0].numpy() == 1  # where no edge of the silhouette is near
        assert (face[whole] >= 0).all() and np.abs(stored[..., 0] - depth)[whole].max() < 1e-5
        assert (stored[scene.alpha[view, 0].numpy() == 0] == 65504).all()
        normal = read_pixels(render / "normals" / f"r_{view}_normal.png")
        assert np.abs(normal[whole][:, :3] / 255 * 2 - 1 - cube.normals[face[whole]]).max() < 0.01
        assert ((normal[..., 3] == 255) == (stored[..., 0] < 65504)).all()
        inner = whole & (face == np.roll(face, 1, 0)) & (face == np.roll(face, -1, 0))
        inner &= (face == np.roll(face, 1, 1)) & (face == np.roll(face, -1, 1))
        assert inner.sum() > 10
        assert np.abs(scene.images[view].numpy()[:, inner].T - cube.colours[face[inner]]).max() < 0.01


def test_depth_of_one_view_is_found_in_the_others(cube, tmp_path):
    """Two cubes, one before the other: a pixel's point is seen in another view, or something lies before it."""
    folder, out = tmp_path / "meshes", tmp_path / "out"
    points = np.concatenate([cube.corners((0, 0, 0), 1.0), cube.corners((2.5, 0.5, 1.0), 0.7)]).reshape(-1, 3)
    lines = ["mtllib a.mtl", *(f"v {x} {y} {z}" for x, y, z in points.tolist())]
    lines += [
        f"f {' '.join(str(4 * face + k + 1) for k in corners)}" for face in range(12) for corners in cube.triangles
    ]
    (folder / "a.obj").parent.mkdir()
    (folder / "a.obj").write_text("\n".join(lines))
    (folder / "a.mtl").write_text("newmtl none\nKd 1 1 1\n")
    assert render_meshes(settings(folder, out, views=4, size=48, samples=1, views_on="sphere")) == 0
    scene = omniobject3d(OmniObjectConfig(path=out))[0]
    depths = np.stack(
        [read_depth(out / "meshes" / "a" / "render" / "depths" / f"r_{n}_depth.exr")[..., 0] for n in range(4)]
    )
    camera = Camera(*(leaf[None] for leaf in scene.camera))
    pixels = whole_image(camera, 48, 48).pixels
    depth = torch.from_numpy(depths)[None]
    points = unproject(camera, pixels, depth)
    behind = []
    for one in range(4):
        seen = points[:, one][depth[:, one] < 100][None]
        assert (seen.norm(dim=-1) < 1 + 1e-4).all()
        found, expected = project(camera, seen)
        for other in set(range(4)) - {one}:
            column, row = found[0, other].long().unbind(-1)
            stored = torch.from_numpy(depths[other])[row, column]
            apart = (found[0, other] - (torch.stack([column, row], -1) + 0.5)).norm(dim=-1)
            near = apart < 0.15  # of the centre of a pixel, whose depth is stored
            behind.append(stored[near] - expected[0, other][near])
    behind = torch.cat(behind)
    assert (behind < 0.02).float().mean() > 0.97  # never something farther away, but for edges
    assert 0.2 < (behind.abs() < 0.02).float().mean() < 0.9  # much is seen again, and something is hidden


def test_views_hang_on_the_object_and_the_seed_alone(tmp_path):
    entry = Entry("chairs", "a", {}, "file", "a.ply")

    def draw(entry=entry, **given):
        return draw_cameras(entry, settings(tmp_path, tmp_path, **given))

    many = draw(views=500)
    assert np.array_equal(draw(views=7), many[:7])
    for other in (draw(entry._replace(object="b"), views=7), draw(views=7, seed=1)):
        assert not np.isclose(other[:, :3, 3], many[:7, :3, 3]).all(-1).any()
    position = many[:, :3, 3]
    assert np.allclose(np.linalg.norm(position, axis=1), 4) and (position[:, 2] > 0).all()
    assert np.allclose(many[:, :3, 2], -position / 4)
    assert abs(position[:, 2].mean() - 2) < 0.2 and np.abs(position[:, :2].mean(0)).max() < 0.5
    sphere = draw(views=500, views_on="sphere")[:, :3, 3]
    assert np.abs(sphere.mean(0)).max() < 0.5


def test_processes_change_nothing(boxes, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert render_meshes(settings(boxes, one, limit=3)) == 0
    assert render_meshes(settings(boxes, two, limit=3, workers=2)) == 0
    assert files_of(one) == files_of(two) and len(files_of(one)) > 30


@pytest.mark.slow
def test_a_killed_run_goes_on(boxes, tmp_path):
    """Two processes are killed in the midst; what they leave is whole, and in the end all is as if it had been one."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    given = {"views": 8, "size": 64, "samples": 5}
    assert render_meshes(settings(boxes, whole, **given)) == 0
    words = [f"{key}={value}" for key, value in given.items()]
    code = "import sys; from goembed_core.cli import main; sys.exit(main(sys.argv[1:]))"
    script = tmp_path / "run.py"
    script.write_text(f"if __name__ == '__main__':\n    {code}\n")
    command = [sys.executable, str(script), "render-meshes", str(boxes), f"out={broken}", "workers=2", *words]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        limit = time.monotonic() + 300
        while not (first := sorted(broken.glob("[!.]*/[!.]*/render/transforms.json"))):
            assert process.poll() is None and time.monotonic() < limit
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    while is_there(process.pid):  # none may be left to render for nobody
        assert time.monotonic() < limit
        time.sleep(0.05)
    done = len(omniobject3d(OmniObjectConfig(path=broken)).names)
    assert 1 <= done < 5
    stamp = first[0].stat().st_mtime_ns
    assert render_meshes(settings(boxes, broken, **given)) == 0
    assert first[0].stat().st_mtime_ns == stamp
    assert files_of(broken) == files_of(whole)


def test_meshes_that_are_broken_are_named_and_left_out(boxes, tmp_path, capsys):
    (boxes / "doors" / "e.png").unlink()
    (boxes / "chairs" / "aa.ply").write_bytes(b"no mesh")
    out = tmp_path / "out"
    assert render_meshes(settings(boxes, out)) == 1
    told = capsys.readouterr()
    assert told.out == f"4 objects of 3 views in {out}; 2 meshes left out\n"
    lines = [line for line in told.err.splitlines() if line.startswith("left out: ")]
    assert len(lines) == 2 and lines[0].startswith("left out: chairs/aa.ply: cannot be read (")
    assert lines[1] == "left out: doors/e.obj: its texture e.png is not there; put the file beside it"
    listing = {
        entry["object"]: entry.get("error") for entry in json.loads((out / "objects.json").read_text())["objects"]
    }
    assert listing["e"].startswith("doors/e.obj: its texture") and listing["a"] is None
    found = omniobject3d(OmniObjectConfig(path=out, split="test", holdout=2)).names
    assert found == ["a", "d"]  # aa has a number, which is no other object's for that
    Image.new("RGB", (4, 4)).save(boxes / "doors" / "e.png")
    assert render_meshes(settings(boxes, out, categories=("doors",))) == 0
    assert omniobject3d(OmniObjectConfig(path=out, split="test", holdout=2)).names == ["a", "d"]
    assert omniobject3d(OmniObjectConfig(path=out, split="train", holdout=2)).names == ["b", "c", "e"]


def test_held_out_objects_are_the_same_whatever_is_looked_at(boxes, tmp_path):
    out = tmp_path / "out"
    assert render_meshes(settings(boxes, out, limit=3)) == 0
    early = omniobject3d(OmniObjectConfig(path=out, split="test", holdout=3)).names
    assert render_meshes(settings(boxes, out)) == 0

    def names(split, path=out, **given):
        return omniobject3d(OmniObjectConfig(path=path, split=split, holdout=3, **given)).names

    assert early == ["a"] and names("test") == ["a", "d"] and names("train") == ["b", "c", "e"]
    assert names("test", categories=("chairs",)) == names("test", path=out / "chairs") == ["d"]
    assert names("train", categories=("chairs", "doors")) == ["c", "e"]
    assert names("train", path=out / "chairs" / "c") == ["c"]
    with pytest.raises(UserError, match="has no category sofas, but balls, chairs, doors; ask for these"):
        names("all", categories=("sofas",))
    (out / "objects.json").write_text('{"objects": []}')
    with pytest.raises(UserError, match=r"objects\.json: does not list every object of \S+ \('balls/a'\)"):
        names("all")


def test_near_and_far_that_are_none(boxes, tmp_path):
    out = tmp_path / "out"
    assert render_meshes(settings(boxes, out, limit=1)) == 0
    file = out / "balls" / "a" / "render" / "transforms.json"
    layout = json.loads(file.read_text())
    assert omniobject3d(OmniObjectConfig(path=out, near_far=(1.0, 9.0)))[0].near_far[0].tolist() == [1.0, 9.0]
    file.write_text(json.dumps(layout | {"far": 2.0}))
    with pytest.raises(UserError, match=r"frame 0 \(r_0\): near and far are 3.0 and 2.0, expected 0 < near < far"):
        omniobject3d(OmniObjectConfig(path=out))[0]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"views": 4}, r"out=\S*out: was begun with views=3, not 4; give that, or a new folder"),
        ({"shading": "unlit"}, "was begun with shading=soft, not unlit"),
        ({"categories": ("sofas",)}, "categories: there is no sofas; there are balls, chairs, doors"),
    ],
)
def test_other_settings_in_a_folder_that_was_begun(boxes, tmp_path, given, error):
    out = tmp_path / "out"
    assert render_meshes(settings(boxes, out, limit=1)) == 0
    before = files_of(out)
    with pytest.raises(UserError, match=error):
        render_meshes(settings(boxes, out, **given))
    assert files_of(out) == before


def test_folders_that_hold_other_things(boxes, cube, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("all of it")
    with pytest.raises(UserError, match=r"out: holds other things, and no render\.json of an earlier run; give a new"):
        render_meshes(settings(boxes, out))
    with pytest.raises(UserError, match=r"out=\S*thesis\.txt: is a file; give a folder"):
        render_meshes(settings(boxes, out / "thesis.txt"))
    (out / "render.json").write_text("{")
    with pytest.raises(UserError, match=r"render\.json: cannot be read as JSON"):
        render_meshes(settings(boxes, out))
    assert (out / "thesis.txt").read_text() == "all of it"
    cube.ply(tmp_path / "others" / "a.ply")
    assert render_meshes(settings(boxes, tmp_path / "new", limit=1)) == 0
    with pytest.raises(UserError, match="was begun with source=meshes, not others"):
        render_meshes(settings(tmp_path / "others", tmp_path / "new", limit=1))
    with pytest.raises(ValidationError, match="samples=4: expected an odd number"):
        settings(boxes, out, samples=4)


def test_public_meshes(furniture, aircraft, tmp_path):
    """One object of each set, as it is published."""
    for folder, first in ((furniture, "bathroom/BlendSwapCC0_012"), (aircraft, "aircraft/m000_t0002")):
        out = tmp_path / folder.name
        assert render_meshes(settings(folder, out, limit=1, size=32)) == 0
        scene = omniobject3d(OmniObjectConfig(path=out / first))[0]
        assert 0.05 < scene.alpha.mean() < 0.6 and scene.images.std() > 0.05
        assert (out / "SOURCES.md").is_file()
