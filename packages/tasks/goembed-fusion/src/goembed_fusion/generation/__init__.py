"""GOEmbedFusion: diffusion with forward models over triplanes."""
