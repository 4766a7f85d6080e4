"""Meshes in files: GLB, OBJ with its MTL, and PLY, by trimesh; what they refer to has to be there."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from goembed_core.errors import UserError
from PIL import Image
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from goembed_multiview_datasets.meshes.model import Material, Mesh, joined

SUFFIXES = (".glb", ".obj", ".ply")
UP = {".glb": "y", ".obj": "y", ".ply": "z"}  # as Blender reads them
WHITE = (255, 255, 255, 255)
_MODES = {"OPAQUE": "opaque", "MASK": "mask", "BLEND": "blend"}


def read_file(path: Path, where: str) -> Mesh:
    """The mesh in a file, all of its parts where its scene has them.

    **Raises:** UserError, which names `where`: for a file that is damaged, that holds no faces, or that refers to a
    texture that is not there.
    """
    linear = path.suffix.lower() == ".glb"  # glTF's factors and vertex colours are linear, not of the display
    try:
        _require_textures(path, where)
        scene = trimesh.load_scene(path, process=False)
        placed = [scene.graph[node] for node in scene.graph.nodes_geometry]  # whose names are random
        order = {name: place for place, name in enumerate(scene.geometry)}
        parts = []
        for transform, name in sorted(placed, key=lambda pair: (order[pair[1]], pair[0].tolist())):
            part = scene.geometry[name]
            if isinstance(part, trimesh.Trimesh) and len(part.faces):
                parts.append(_part(part, transform, linear))
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file makes trimesh stumble over
        raise UserError(f"{where}: cannot be read ({type(error).__name__}: {error!s:.80}); export it again") from error
    if not parts:
        raise UserError(f"{where}: has no faces; give a mesh, not points or lines")
    if (
        linear
        and _with_texture(_glb_header(path))
        and not any(m.texture is not None for p in parts for m in p.materials)
    ):
        raise UserError(f"{where}: its textures cannot be read; export it again with PNG or JPEG images within")
    return joined(parts)


def _part(part: trimesh.Trimesh, transform: np.ndarray, linear: bool) -> Mesh:
    vertices = trimesh.transform_points(np.asarray(part.vertices, np.float64), transform)
    faces = np.asarray(part.faces, np.int64)
    uv, colours, material = np.zeros((len(vertices), 2)), np.ones((len(vertices), 4)), Material(np.ones(4))
    visual = part.visual
    if isinstance(visual, TextureVisuals):
        material = _material(visual.material)
        if visual.uv is not None and len(visual.uv) == len(vertices):
            uv = np.asarray(visual.uv, np.float64)[:, :2]
        else:
            material = material._replace(texture=None)
        found = visual.vertex_attributes.get("color")
        if found is not None:
            colours = _unit(found)
    elif isinstance(visual, ColorVisuals) and visual.kind == "vertex":
        colours = _unit(visual.vertex_colors)
    elif isinstance(visual, ColorVisuals) and visual.kind == "face":
        vertices, faces, uv = vertices[faces].reshape(-1, 3), np.arange(3 * len(faces)).reshape(-1, 3), None
        colours, uv = np.repeat(_unit(visual.face_colors), 3, axis=0), np.zeros((len(vertices), 2))
    if linear:
        colours, material = _displayed(colours), material._replace(colour=_displayed(material.colour))
    return Mesh(vertices, faces, uv, colours, np.zeros(len(faces), np.int64), (material,))


def _material(found: SimpleMaterial | PBRMaterial) -> Material:
    if isinstance(found, PBRMaterial):
        factor = np.ones(4) if found.baseColorFactor is None else _unit(found.baseColorFactor).reshape(-1)
        opacity = _MODES.get(found.alphaMode or "OPAQUE", "opaque")
        if opacity == "opaque":
            factor = np.append(factor[:3], 1.0)
        cutoff = 0.5 if found.alphaCutoff is None else float(found.alphaCutoff)
        return Material(factor, _pixels(found.baseColorTexture), opacity, cutoff)
    colour = _unit(WHITE if found.diffuse is None else found.diffuse).reshape(-1)
    dissolved = {key: float(value[0]) for key in ("d", "tr") if (value := found.kwargs.get(key))}
    colour = np.append(colour[:3], dissolved.get("d", 1 - dissolved.get("tr", 0.0))).clip(0, 1)
    image = found.image
    return Material(colour, _pixels(image), "blend" if image is not None and image.has_transparency_data else "opaque")


def _pixels(image: Image.Image | None) -> np.ndarray | None:
    return None if image is None else np.asarray(image.convert("RGBA"))


def _unit(values: Any) -> np.ndarray:
    """Colours `(n, 4)` in [0, 1], of whatever type they were stored in."""
    values = np.atleast_2d(np.asarray(values))
    whole = np.issubdtype(values.dtype, np.integer)
    values = values.astype(np.float64) / (np.iinfo(values.dtype).max if whole else 1.0)
    if values.shape[1] == 3:
        values = np.c_[values, np.ones(len(values))]
    return values


def _displayed(colour: np.ndarray) -> np.ndarray:
    """Linear colours as a display has them: sRGB's curve; opacity stays."""
    straight = colour[..., :3].clip(0, None)
    curved = np.where(straight <= 0.0031308, 12.92 * straight, 1.055 * np.maximum(straight, 1e-9) ** (1 / 2.4) - 0.055)
    return np.concatenate([curved, colour[..., 3:]], -1)


def _require_textures(path: Path, where: str) -> None:
    """What a file names, and trimesh would silently do without, is there."""
    if path.suffix.lower() == ".glb":
        images = _glb_header(path).get("images", [])
        names = [uri for image in images if (uri := image.get("uri")) and not uri.startswith("data:")]
    elif path.suffix.lower() == ".obj":
        library = next(iter(_named(path, "mtllib")), None)
        if library is None:
            return
        if not (path.parent / library).is_file():
            raise UserError(f"{where}: its materials {library} are not there; put the file beside it")
        names = _named(path.parent / library, "map_Kd")
    else:
        head = path.read_bytes()[:65536].partition(b"end_header")[0].decode("ascii", "replace")
        names = [
            line.split(maxsplit=2)[2].strip() for line in head.splitlines() if line.startswith("comment TextureFile ")
        ]
    for name in names:
        texture = path.parent / name.replace("\\", "/")
        if not texture.is_file():
            raise UserError(f"{where}: its texture {name} is not there; put the file beside it")
        with Image.open(texture) as image:
            image.load()


def _named(path: Path, keyword: str) -> list[str]:
    """The names that follow a keyword of an OBJ or MTL file."""
    lines = path.read_text(errors="replace").splitlines()
    return [words[1].strip() for line in lines if len(words := line.split(maxsplit=1)) == 2 and words[0] == keyword]


def _glb_header(path: Path) -> Mapping[str, Any]:
    """The JSON of a GLB file."""
    data = path.read_bytes()
    magic, _, _, length, _ = struct.unpack_from("<4sIIII", data)
    if magic != b"glTF":
        raise ValueError("it does not begin with glTF")
    return json.loads(data[20 : 20 + length])


def _with_texture(header: Mapping[str, Any]) -> bool:
    """Whether a material of a GLB file has a texture."""
    return any("baseColorTexture" in m.get("pbrMetallicRoughness", {}) for m in header.get("materials", []))
