"""Procedural frames pixel by pixel, from the definition: slow, and obviously right."""

import math

import torch


def coverage(scene, item, k, x, y):
    """How much object `k` of an item covers at a place seen from its anchor, untransformed."""
    arm = scene.arm[item, k].tolist()
    dx, dy = x - arm[0], y - arm[1]
    angle = math.atan2(dy, dx)
    outline = 1.0
    for order, (cosine, sine) in enumerate(scene.outline[item, k].tolist(), 2):
        outline += cosine * math.cos(order * angle) + sine * math.sin(order * angle)
    inside = float(scene.radius[item, k]) * outline - math.hypot(dx, dy)
    if scene.rod[item, k] > 0:
        along = min(1.0, max(0.0, (x * arm[0] + y * arm[1]) / (arm[0] ** 2 + arm[1] ** 2)))
        inside = max(inside, float(scene.rod[item, k]) - math.hypot(x - along * arm[0], y - along * arm[1]))
    return min(1.0, max(0.0, inside + 0.5))


def texel(texture, u, v):
    """Bilinear; beyond the border as on it."""
    side = texture.shape[-1]
    u, v = min(side - 1.0, max(0.0, u)), min(side - 1.0, max(0.0, v))
    left, top = min(int(u), side - 2), min(int(v), side - 2)
    a, b = u - left, v - top
    upper = (1 - a) * texture[:, top, left] + a * texture[:, top, left + 1]
    lower = (1 - a) * texture[:, top + 1, left] + a * texture[:, top + 1, left + 1]
    return (1 - b) * upper + b * lower


def paint(scene, appearance, signs, time, item):
    """One frame of one item."""
    picture = appearance.background[item].clone()
    for row in range(picture.shape[1]):
        for column in range(picture.shape[2]):
            for k in reversed(range(signs.shape[1])):
                anchor = scene.anchor[item, k].tolist()
                angle = float(scene.turn[item, k] * signs[item, k]) * time
                dx = column - anchor[0] - float(scene.shift[item, k] * signs[item, k]) * time
                dy = row - anchor[1]
                x = math.cos(angle) * dx + math.sin(angle) * dy  # turned back
                y = math.cos(angle) * dy - math.sin(angle) * dx
                arm, half = scene.arm[item, k].tolist(), (appearance.textures.shape[-1] - 1) / 2
                alpha = coverage(scene, item, k, x, y)
                colour = texel(appearance.textures[item, k], x - arm[0] + half, y - arm[1] + half)
                picture[:, row, column] = alpha * colour + (1 - alpha) * picture[:, row, column]
            pivot = scene.anchor[item, 0].tolist()
            alpha = float(scene.pivot[item]) + 0.5 - math.hypot(column - pivot[0], row - pivot[1])
            alpha = min(1.0, max(0.0, alpha))
            picture[:, row, column] = alpha * torch.tensor(-0.9) + (1 - alpha) * picture[:, row, column]
    return picture
