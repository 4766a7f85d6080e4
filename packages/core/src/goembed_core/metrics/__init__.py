"""What a result is measured in.

Per image: `images` (PSNR, SSIM) and `lpips`.  Between sets of images: `features` turns images into features,
`distances` compares two sets of them, `bootstrap` says how far to trust the figure, and `distribution` does all three
under the right names.  `results` (free of torch) reads and writes `metrics.json`.
"""
