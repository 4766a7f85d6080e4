"""deepinv's physics operators as goembed forward models."""
