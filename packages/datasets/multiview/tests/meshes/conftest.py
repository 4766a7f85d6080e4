"""Cubes of known colours, written by hand in every format, and a ray caster that knows what they look like."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

# Colours of the faces +x, -x, +y, -y, +z, -z of the cube as the file has it; y is up there.
COLOURS = np.array([[230, 30, 40], [40, 200, 60], [50, 60, 220], [240, 220, 30], [200, 50, 210], [30, 210, 220]])
HALF = 1 / math.sqrt(3)  # of the cube's side, once its corners are at a distance of 1
NORMALS = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])


def corners(centre=(0.0, 0.0, 0.0), half=1.0):
    """The corners of each face `(6, 4, 3)`, around it; every other face winds the wrong way."""
    found = []
    for number, normal in enumerate(NORMALS):
        axis = number // 2
        one, other = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
        found.append([normal + a * one + b * other for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
    return np.array(found) * half + np.array(centre)


UV = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])  # of the corners of a face, v up
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3]])


def atlas(side=16):
    """A texture of six patches one above the other, +x at the top."""
    return np.repeat(COLOURS, side, 0)[:, None].repeat(side, 1).astype(np.uint8)


def atlas_uv():
    """`(6, 4, 2)`: every face the middle of its patch, v up."""
    middle = 1 - (np.arange(6) + 0.5) / 6
    return np.stack([np.broadcast_to([0.5, value], (4, 2)) + 0.1 * (UV - 0.5) for value in middle])


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}))
    return buffer.getvalue()


def write_ply(path, points=None, colours=COLOURS, per_face=False, alpha=255):
    """Text, z up in the file as in our world: the axes are turned so that it is the same cube."""
    points = corners() if points is None else points
    points = np.stack([points[..., 0], -points[..., 2], points[..., 1]], -1)
    colour = [f"{r} {g} {b} {alpha}" for r, g, b in colours]
    channels = "".join(f"property uchar {name}\n" for name in ("red", "green", "blue", "alpha"))
    vertices = [
        " ".join(map(repr, map(float, point))) + ("" if per_face else f" {colour[n]}")
        for n in range(6)
        for point in points[n]
    ]
    faces = [
        f"3 {' '.join(str(4 * n + k) for k in triangle)}" + (f" {colour[n]}" if per_face else "")
        for n in range(6)
        for triangle in TRIANGLES
    ]
    text = "ply\nformat ascii 1.0\nelement vertex 24\nproperty double x\nproperty double y\nproperty double z\n"
    text += ("" if per_face else channels) + "element face 12\nproperty list uchar int vertex_indices\n"
    text += (channels if per_face else "") + "end_header\n" + "\n".join(vertices + faces) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_obj(path, points=None, texture=None, alpha=None):
    """With a material for each face, or one with a texture."""
    points = corners() if points is None else points
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"mtllib {path.stem}.mtl"]
    lines += [f"v {x!r} {y!r} {z!r}" for x, y, z in points.reshape(-1, 3).tolist()]
    lines += [f"vt {u!r} {v!r}" for u, v in atlas_uv().reshape(-1, 2).tolist()]
    for n in range(6):
        lines.append(f"usemtl {'painted' if texture else f'face{n}'}")
        lines += ["f " + " ".join(f"{4 * n + k + 1}/{4 * n + k + 1}" for k in triangle) for triangle in TRIANGLES]
    path.write_text("\n".join(lines) + "\n")
    materials = [f"newmtl face{n}\nKd {r / 255} {g / 255} {b / 255}" for n, (r, g, b) in enumerate(COLOURS)]
    if alpha is not None:
        materials = [f"{material}\nd {alpha}" for material in materials]
    if texture:
        materials = [f"newmtl painted\nKd 1 1 1\nmap_Kd {texture}"]
        Image.fromarray(atlas()).save(path.parent / texture)
    path.with_suffix(".mtl").write_text("\n".join(materials) + "\n")


def linear(colours):
    """Bytes of the display as glTF's linear factors."""
    value = np.asarray(colours) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def write_glb(path, kind, turn=0.0, uri=None, alpha_mode=None, texture=None, alpha=1.0):
    """`materials` of one colour each, a `texture` of all faces, or `vertices` that have colours; binary glTF 2.0.

    The node turns the cube by `turn` about the vertical and moves it: its place among the others does not matter.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    binary, views, accessors, materials = b"", [], [], []

    def add(values, component, name):
        nonlocal binary
        data = np.ascontiguousarray(values).tobytes()
        binary += b"\0" * (-len(binary) % 4)
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
        binary += data
        accessors.append({"bufferView": len(views) - 1, "componentType": component, "count": len(values), "type": name})
        return len(accessors) - 1

    points = corners().astype(np.float32)
    indices = (TRIANGLES + 4 * np.arange(6)[:, None, None]).reshape(6, -1).astype(np.uint32)
    primitives = []
    if kind == "materials":
        for n in range(6):
            position = add(points[n], 5126, "VEC3")
            accessors[position] |= {"min": points[n].min(0).tolist(), "max": points[n].max(0).tolist()}
            primitives.append(
                {"attributes": {"POSITION": position}, "material": n, "indices": add(indices[0], 5125, "SCALAR")}
            )
            factor = [*linear(COLOURS[n]).tolist(), alpha]
            materials.append({"pbrMetallicRoughness": {"baseColorFactor": factor}})
            if alpha_mode:
                materials[-1]["alphaMode"] = alpha_mode
    else:
        flat = points.reshape(-1, 3)
        position = add(flat, 5126, "VEC3")
        accessors[position] |= {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        attributes = {"POSITION": position}
        if kind == "texture":
            uv = atlas_uv().reshape(-1, 2).copy()
            uv[:, 1] = 1 - uv[:, 1]  # glTF's v goes down
            attributes["TEXCOORD_0"] = add(uv.astype(np.float32), 5126, "VEC2")
            materials = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
            if alpha_mode:
                materials[0]["alphaMode"] = alpha_mode
        else:
            rgba = np.c_[linear(COLOURS), np.ones(6)].repeat(4, 0).astype(np.float32)
            attributes["COLOR_0"] = add(rgba, 5126, "VEC4")
        primitives = [{"attributes": attributes, "indices": add(indices.reshape(-1), 5125, "SCALAR")}]
        if materials:
            primitives[0]["material"] = 0
    header = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [
            {
                "mesh": 0,
                "translation": [5.0, -2.0, 1.0],
                "scale": [3.0, 3.0, 3.0],
                "rotation": [0.0, math.sin(turn / 2), 0.0, math.cos(turn / 2)],
            }
        ],
        "meshes": [{"primitives": primitives}],
    }
    if materials:
        header["materials"] = materials
    if kind == "texture":
        image = {"uri": uri} if uri else {"mimeType": "image/png", "bufferView": len(views)}
        if not uri:
            data = encoded(atlas()) if texture is None else texture
            binary += b"\0" * (-len(binary) % 4)
            views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
            binary += data
        header |= {"textures": [{"source": 0}], "images": [image]}
    binary += b"\0" * (-len(binary) % 4)
    header |= {"bufferViews": views, "accessors": accessors, "buffers": [{"byteLength": len(binary)}]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(binary)
    path.write_bytes(
        struct.pack("<4sII", b"glTF", 2, total)
        + struct.pack("<I4s", len(text), b"JSON")
        + text
        + struct.pack("<I4s", len(binary), b"BIN\0")
        + binary
    )


def write_zip(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            if isinstance(content, dict):
                buffer = io.BytesIO()
                np.savez(buffer, **content)
                content = buffer.getvalue()
            file.writestr(name, content)


def cube_arrays(uv=None):
    """The cube as both zips have meshes: positions in 16 bits within a box."""
    low, high = np.float32([-2, 1, 3]), np.float32([4, 7, 9])
    return {
        "pos_u16": np.uint16(np.round((corners().reshape(-1, 3) + 1) / 2 * 65535)),
        "bbox": np.stack([low, high]),
        "uv": np.float16(np.zeros((24, 2)) if uv is None else uv.reshape(-1, 2)),
        "faces": np.uint16((TRIANGLES + 4 * np.arange(6)[:, None, None]).reshape(-1, 3)),
    }


def write_furniture(folder, names=("A_001", "B_002")):
    """`objects_npz.zip` and its index: the first has a colour for each face, the others a texture."""
    of_face = np.repeat(np.arange(6), 2).astype(np.uint8)
    coloured = cube_arrays() | {
        "face_mat": of_face,
        "mat_rgb": np.float32(COLOURS / 255),
        "mat_tex": np.full(6, -1, np.int8),
        "mat_alpha": np.ones(6, np.float32),
    }
    textured = cube_arrays(atlas_uv()) | {
        "face_mat": 0 * of_face,
        "mat_rgb": np.ones((1, 3), np.float32),
        "mat_tex": np.zeros(1, np.int8),
        "mat_alpha": np.ones(1, np.float32),
        "tex0_jpg": np.frombuffer(encoded(atlas(), "JPEG"), np.uint8),
    }
    write_zip(folder / "objects_npz.zip", {f"{n}.npz": textured if i else coloured for i, n in enumerate(names)})
    index = [{"id": name, "name": "Cube", "category": "Living room", "licence": "CC0"} for name in names]
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "SOURCES.md").write_text("All of it is CC0.\n")


def write_aircraft(folder):
    """`meshes_npz.zip` and `textures256.zip`: four faces have the texture, the others a colour."""
    arrays = cube_arrays(atlas_uv()) | {
        "tex_index": np.repeat(np.uint8([3, 3, 3, 3, 1, 1]), 2),
        "tex_names": np.array(["a", "b", "c", "d"]),
        "main_tex": np.array(3),
        "face_color": np.repeat(np.uint8(COLOURS), 2, axis=0),
    }
    write_zip(folder / "meshes_npz.zip", {"m000.npz": arrays})
    write_zip(folder / "textures256.zip", {"t0002.jpg": encoded(atlas(), "JPEG")})
    (folder / "index.json").write_text(json.dumps([{"mesh": "m000", "texture": "t0002.jpg", "type": "220"}]))


def cast(pose, intrinsics, size):
    """The cube of the file, in the unit ball and z up: which face each pixel's centre sees (-1: none), and its depth.

    Each pixel's ray, by hand: where it is within all three pairs of planes.
    """
    axis = np.arange(size) + 0.5
    local = np.stack(np.broadcast_arrays(axis[None, :], axis[:, None], 1.0), -1) @ np.linalg.inv(intrinsics).T
    rays = local @ pose[:3, :3].T  # of depth 1 along z
    low, high = ((side - pose[:3, 3]) / rays for side in (-HALF, HALF))
    enter, leave = np.minimum(low, high), np.maximum(low, high)
    first, last = enter.max(-1), leave.min(-1)
    hit = first < last
    through = enter.argmax(-1)
    positive = np.take_along_axis(rays, through[..., None], -1)[..., 0] < 0
    world = 2 * through + ~positive  # +x, -x, +y, -y, +z, -z of the world, which is (x, -z, y) of the file
    return np.where(hit, np.array([0, 1, 5, 4, 2, 3])[world], -1), np.where(hit, first, 0.0)


WORLD_NORMALS = np.stack([NORMALS[:, 0], -NORMALS[:, 2], NORMALS[:, 1]], -1)


@pytest.fixture(scope="session")
def cube():
    """The helpers of this module, which no test can import."""
    return SimpleNamespace(
        colours=COLOURS / 255, half=HALF, normals=WORLD_NORMALS, corners=corners, triangles=TRIANGLES, atlas=atlas,
        encoded=encoded, ply=write_ply, obj=write_obj, glb=write_glb, furniture=write_furniture,
        aircraft=write_aircraft, cast=cast, zip=write_zip, arrays=cube_arrays, linear=linear,
    )  # fmt: skip


@pytest.fixture
def folder_of(cube, tmp_path):
    """A folder with one cube, by the name of its kind."""

    def write(kind) -> Path:
        folder = tmp_path / "meshes"
        single = folder / "boxes" / "one"
        make = {
            "ply": lambda: cube.ply(single.with_suffix(".ply")),
            "ply, colours of faces": lambda: cube.ply(single.with_suffix(".ply"), per_face=True),
            "obj": lambda: cube.obj(single.with_suffix(".obj")),
            "obj, texture": lambda: cube.obj(single.with_suffix(".obj"), texture="all six.png"),
            "glb, materials": lambda: cube.glb(single.with_suffix(".glb"), "materials"),
            "glb, texture": lambda: cube.glb(single.with_suffix(".glb"), "texture"),
            "glb, colours of vertices": lambda: cube.glb(single.with_suffix(".glb"), "vertices"),
            "furniture": lambda: cube.furniture(folder, names=("A",)),
            "furniture, texture": lambda: cube.furniture(folder, names=("none", "A")),
            "aircraft": lambda: cube.aircraft(folder),
        }
        make[kind]()
        return folder

    return write
