"""Triplanes, voxels, factored grids and networks as signals of a radiance field."""
