"""GOEmbed's experiments on posed views of objects."""
